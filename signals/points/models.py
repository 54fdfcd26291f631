from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from signals.points.kinds import KINDS, NAME_MAX, SOURCE_MAX, UNIT_MAX

SERIES_KEY = (
    "workflow_id",
    "path_id",
    "name",
    "kind",
    "unit",
    "source",
    "segment_id",
    "release_id",
    "arm",
)


class PointSeries(models.Model):
    """What metric points belong to; 0 for no segment, release or known arm."""

    workflow_id = models.IntegerField()
    path_id = models.IntegerField()
    name = models.CharField(max_length=NAME_MAX)
    kind = models.CharField(max_length=9)
    unit = models.CharField(max_length=UNIT_MAX)
    source = models.CharField(max_length=SOURCE_MAX)
    segment_id = models.IntegerField()
    release_id = models.IntegerField()
    arm = models.SmallIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "point_series"
        constraints = [
            UniqueConstraint(name="point_series_once", fields=list(SERIES_KEY)),
            CheckConstraint(name="point_series_kind_known", condition=Q(kind__in=KINDS)),
        ]

    def __str__(self) -> str:
        return f"{self.name} of path {self.path_id}"


class MetricPointRow(models.Model):
    """One metric point, kept once: its series, its stream and its time are its identity.

    A gauge has `n`, `total`, `squares`, `low`, `high` and `last`; a sum its `total`; a histogram
    `n` and what it told of the rest. Exponential buckets are `scale`, `idx` and `cnt` (negative
    ones apart); explicit ones are `bounds` with one `cnt` more than those.
    """

    # First the time: what arrives is of now, so that the index is written in one place.
    pk = models.CompositePrimaryKey("at", "series_id", "stream")
    at = models.DateTimeField()
    series_id = models.IntegerField()
    stream = models.UUIDField()
    arrived_at = models.DateTimeField()
    # Recorded history: charts read it, guards do not.
    backfill = models.BooleanField()
    n = models.BigIntegerField()
    total = models.FloatField(null=True)
    squares = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    last = models.FloatField(null=True)
    scale = models.SmallIntegerField(null=True)
    zero = models.BigIntegerField(null=True)
    zero_threshold = models.FloatField(null=True)
    idx = ArrayField(models.IntegerField(), null=True)
    cnt = ArrayField(models.BigIntegerField(), null=True)
    negative_idx = ArrayField(models.IntegerField(), null=True)
    negative_cnt = ArrayField(models.BigIntegerField(), null=True)
    bounds = ArrayField(models.FloatField(), null=True)

    class Meta:
        db_table = "metric_point"
        indexes = [models.Index(name="metric_point_series_time", fields=["series_id", "at"])]

    def __str__(self) -> str:
        return f"series {self.series_id} at {self.at}"
