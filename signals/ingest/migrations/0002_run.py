"""Runs, partitioned by day, and the one way in which the application may add a day."""

from django.db import migrations, models

# Columns in falling order of alignment, so that a row carries no padding.
RUN_TABLE = """
create table run (
    occurred_at timestamptz not null,
    drain bigint not null,
    exposure_version bigint,
    quality_score double precision,
    latency_ms double precision,
    cost_usd double precision,
    retrieval_score double precision,
    confidence double precision,
    input_tokens bigint,
    output_tokens bigint,
    context_tokens bigint,
    retries bigint,
    steps bigint,
    tool_calls bigint,
    retrieved bigint,
    workflow_id integer not null,
    path_id integer not null,
    segment_id integer not null,
    release_id integer not null,
    arm smallint not null,
    mode smallint not null,
    input_condition smallint not null,
    risk smallint not null,
    outcome smallint not null,
    critical boolean not null,
    review_requested boolean not null,
    quality_passed boolean,
    id_hash uuid not null,
    run_id text not null,
    failure_category text,
    route text,
    client text,
    subject text,
    trace_id text,
    drill text,
    attributes jsonb,
    measures jsonb,
    primary key (occurred_at, workflow_id, id_hash)
) partition by range (occurred_at)
"""

# The application's role may not create tables; through this it may make days of runs, no more.
# A day is made as a table of its own and then attached, because attaching, unlike
# `create table ... partition of`, does not wait for whoever is inserting. The advisory lock makes
# two who want the same day take turns.
RUN_DAY_ENSURE = """
create function run_day_ensure(day date) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := 'run_' || to_char(day, 'YYYYMMDD');
    starts timestamptz := day::timestamp at time zone 'UTC';
    ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if to_regclass('public.' || partition) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('run_day_ensure', 0));
    if to_regclass('public.' || partition) is not null then
        return false;
    end if;
    execute format('create table %I (like run including all)', partition);
    execute format(
        'alter table run attach partition %I for values from (%L) to (%L)',
        partition, starts, ends
    );
    return true;
end
$$
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="Run",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "occurred_at",
                                "workflow_id",
                                "id_hash",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("occurred_at", models.DateTimeField()),
                        ("workflow_id", models.IntegerField()),
                        ("id_hash", models.UUIDField()),
                        ("drain", models.BigIntegerField()),
                        ("path_id", models.IntegerField()),
                        ("segment_id", models.IntegerField()),
                        ("release_id", models.IntegerField()),
                        ("arm", models.SmallIntegerField()),
                        ("mode", models.SmallIntegerField()),
                        ("input_condition", models.SmallIntegerField()),
                        ("risk", models.SmallIntegerField()),
                        ("outcome", models.SmallIntegerField()),
                        ("critical", models.BooleanField()),
                        ("review_requested", models.BooleanField()),
                        ("quality_passed", models.BooleanField(null=True)),
                        ("run_id", models.TextField()),
                        ("quality_score", models.FloatField(null=True)),
                        ("latency_ms", models.FloatField(null=True)),
                        ("cost_usd", models.FloatField(null=True)),
                        ("retrieval_score", models.FloatField(null=True)),
                        ("confidence", models.FloatField(null=True)),
                        ("input_tokens", models.BigIntegerField(null=True)),
                        ("output_tokens", models.BigIntegerField(null=True)),
                        ("context_tokens", models.BigIntegerField(null=True)),
                        ("retries", models.BigIntegerField(null=True)),
                        ("steps", models.BigIntegerField(null=True)),
                        ("tool_calls", models.BigIntegerField(null=True)),
                        ("retrieved", models.BigIntegerField(null=True)),
                        ("exposure_version", models.BigIntegerField(null=True)),
                        ("failure_category", models.TextField(null=True)),
                        ("route", models.TextField(null=True)),
                        ("client", models.TextField(null=True)),
                        ("subject", models.TextField(null=True)),
                        ("trace_id", models.TextField(null=True)),
                        ("drill", models.TextField(null=True)),
                        ("attributes", models.JSONField(null=True)),
                        ("measures", models.JSONField(null=True)),
                    ],
                    options={
                        "db_table": "run",
                    },
                ),
            ],
            database_operations=[migrations.RunSQL(RUN_TABLE, "drop table run")],
        ),
        migrations.RunSQL(RUN_DAY_ENSURE, "drop function run_day_ensure(date)"),
    ]
