"""Indexes of the sources page and the drill-down, built while reports go on coming in."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("ingest", "0007_sources")]

    operations = [
        AddIndexConcurrently(
            model_name="ingestbatch",
            index=models.Index(
                condition=models.Q(("n_rejected__gt", 0)),
                fields=["received_at"],
                name="batch_rejected",
            ),
        ),
        AddIndexConcurrently(
            model_name="ingestbatch",
            index=models.Index(
                condition=models.Q(("state", "failed")), fields=["seq"], name="batch_failed"
            ),
        ),
        AddIndexConcurrently(
            model_name="observation",
            index=models.Index(fields=["workflow_id", "run_hash"], name="observation_of_run"),
        ),
        AddIndexConcurrently(
            model_name="observation",
            index=models.Index(
                condition=models.Q(("state", 2)),
                fields=["workflow_id", "received_at"],
                name="observation_unknown",
            ),
        ),
    ]
