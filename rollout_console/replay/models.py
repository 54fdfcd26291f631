from django.db import models


class ReplayCheckpoint(models.Model):
    """How far a replay of recorded history has come, kept until it is through.

    Beside the data it tells of, so that another database is never taken to hold it. `file` and
    `row` are the last ones whose items are all stored; the counts are of everything up to there.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    file = models.IntegerField()
    row = models.BigIntegerField()
    accepted = models.BigIntegerField()
    rejected = models.BigIntegerField()
    skipped = models.BigIntegerField()
    noted_at = models.DateTimeField()

    class Meta:
        db_table = "replay_checkpoint"

    def __str__(self) -> str:
        return f"file {self.file} row {self.row}"
