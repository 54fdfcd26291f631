from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # The index is made beside whoever writes.
    atomic = False

    dependencies = [
        ("ingest", "0010_day_seen"),
    ]

    operations = [
        migrations.AddField(
            model_name="ingestbatch",
            name="evidence_due",
            field=models.BooleanField(db_default=False, default=False),
        ),
        AddIndexConcurrently(
            model_name="ingestbatch",
            index=models.Index(
                condition=models.Q(("evidence_due", True), ("state", "drained")),
                fields=["seq"],
                name="batch_evidence_due",
            ),
        ),
    ]
