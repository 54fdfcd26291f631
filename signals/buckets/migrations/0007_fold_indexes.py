"""What folds look ledgers up by, made beside whoever writes."""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("buckets", "0006_folds"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="arrivalledger",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["minute"], name="ledger_minute"
            ),
        ),
        AddIndexConcurrently(
            model_name="failureledger",
            index=models.Index(fields=["drain"], name="failure_drain"),
        ),
        AddIndexConcurrently(
            model_name="measureledger",
            index=models.Index(fields=["drain"], name="measure_drain"),
        ),
        AddIndexConcurrently(
            model_name="mixledger",
            index=models.Index(fields=["drain"], name="mix_drain"),
        ),
        AddIndexConcurrently(
            model_name="routeledger",
            index=models.Index(fields=["drain"], name="route_drain"),
        ),
    ]
