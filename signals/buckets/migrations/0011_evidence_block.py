import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("buckets", "0010_actions"),
    ]

    operations = [
        migrations.CreateModel(
            name="EvidenceBlock",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "firsts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), size=None
                    ),
                ),
                (
                    "lasts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), size=None
                    ),
                ),
                ("closed_at", models.DateTimeField()),
                ("repaired", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "db_table": "evidence_block",
            },
        ),
    ]
