"""Spans and log records by day, the traces they make up, and what was made of them."""

import django.db.models.deletion
from django.db import migrations, models

# Columns in falling order of alignment. Keys begin with the trace, which is how both are read.
SPAN_TABLE = """
create table otlp_span (
    started_at timestamptz not null,
    received_at timestamptz not null,
    start_ns bigint not null,
    end_ns bigint not null,
    source_id uuid not null,
    kind smallint not null,
    status smallint not null,
    trace_id text not null,
    span_id text not null,
    parent_id text,
    name text not null,
    response_id text,
    reach jsonb,
    detail jsonb not null,
    primary key (trace_id, span_id, started_at)
) partition by range (started_at);
create index otlp_span_response on otlp_span (response_id, started_at)
    where response_id is not null;
"""
LOG_TABLE = """
create table otlp_log (
    at timestamptz not null,
    received_at timestamptz not null,
    digest uuid not null,
    source_id uuid not null,
    tool_requests integer not null,
    severity smallint not null,
    event text not null,
    trace_id text,
    span_id text,
    detail jsonb not null,
    primary key (digest, at)
) partition by range (at);
create index otlp_log_trace on otlp_log (trace_id) where trace_id is not null;
"""

# As for days of runs: the application may add a day and drop old ones through these, no more.
DAY_ENSURE = """
create function otlp_day_ensure(parent text, day date) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := parent || '_' || to_char(day, 'YYYYMMDD');
    starts timestamptz := day::timestamp at time zone 'UTC';
    ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if parent not in ('otlp_span', 'otlp_log') then
        raise exception 'no days of % are kept', parent;
    end if;
    if to_regclass('public.' || partition) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('otlp_day_ensure', 0));
    if to_regclass('public.' || partition) is not null then
        return false;
    end if;
    execute format('create table %I (like %I including all)', partition, parent);
    execute format(
        'alter table %I attach partition %I for values from (%L) to (%L)',
        parent, partition, starts, ends
    );
    return true;
end
$$
"""
# Of at least a week ago, whoever asks. What is in the way is waited for a moment, then not.
DAYS_DROP = """
create function otlp_days_drop(before date) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    partition text;
    dropped integer := 0;
begin
    for partition in
        select c.relname from pg_inherits i
            join pg_class c on c.oid = i.inhrelid
            join pg_class p on p.oid = i.inhparent
        where p.relname in ('otlp_span', 'otlp_log')
            and right(c.relname, 8) < to_char(
                least(before, (now() at time zone 'UTC')::date - 7), 'YYYYMMDD'
            )
        order by c.relname
    loop
        execute format('drop table %I', partition);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("catalog", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="OtlpSource",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("resource", models.JSONField()),
                ("scope", models.JSONField()),
                ("first_seen_at", models.DateTimeField()),
            ],
            options={
                "db_table": "otlp_source",
            },
        ),
        migrations.CreateModel(
            name="PriceSheetVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("document", models.JSONField()),
                ("digest", models.CharField(max_length=64)),
                ("put_at", models.DateTimeField()),
                ("put_by", models.CharField(max_length=150)),
            ],
            options={
                "db_table": "otlp_price_sheet",
            },
        ),
        migrations.CreateModel(
            name="OtlpDuplicate",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("workflow", models.TextField()),
                ("counted_scope", models.TextField()),
                ("other_scope", models.TextField()),
                ("day", models.DateField()),
                ("calls", models.BigIntegerField()),
                ("trace_id", models.TextField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "db_table": "otlp_duplicate",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("workflow", "counted_scope", "other_scope", "day"),
                        name="otlp_duplicate_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OtlpEvaluation",
            fields=[
                ("digest", models.UUIDField(primary_key=True, serialize=False)),
                ("received_at", models.DateTimeField()),
                ("occurred_at", models.DateTimeField()),
                ("trace_id", models.TextField(null=True)),
                ("span_id", models.TextField(null=True)),
                ("response_id", models.TextField(null=True)),
                ("reach", models.JSONField(null=True)),
                ("name", models.TextField(null=True)),
                ("score", models.FloatField(null=True)),
                ("passed", models.BooleanField(null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("sent", "Sent"),
                            ("unknown", "Unknown"),
                            ("refused", "Refused"),
                        ],
                        default="waiting",
                        max_length=8,
                    ),
                ),
                ("look_at", models.DateTimeField()),
                ("looks", models.SmallIntegerField(db_default=0, default=0)),
                ("run_id", models.TextField(db_default="", default="")),
                ("fault", models.TextField(db_default="", default="")),
            ],
            options={
                "db_table": "otlp_evaluation",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "waiting")),
                        fields=["look_at"],
                        name="otlp_evaluation_to_look",
                    ),
                    models.Index(
                        condition=models.Q(("state", "waiting")),
                        fields=["trace_id"],
                        name="otlp_evaluation_of_trace",
                    ),
                    models.Index(
                        condition=models.Q(("state", "waiting")),
                        fields=["response_id"],
                        name="otlp_evaluation_of_response",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["waiting", "sent", "unknown", "refused"])
                        ),
                        name="otlp_evaluation_state_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OtlpRun",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "trace_id",
                        "span_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("trace_id", models.TextField()),
                ("span_id", models.TextField()),
                ("run_id", models.TextField()),
                ("workflow", models.TextField()),
                ("occurred_at", models.DateTimeField()),
                ("assembled_at", models.DateTimeField()),
                ("spans", models.IntegerField()),
                ("late_spans", models.IntegerField(db_default=0, default=0)),
                ("fault", models.TextField(db_default="", default="")),
            ],
            options={
                "db_table": "otlp_run",
                "indexes": [
                    models.Index(
                        condition=models.Q(
                            models.Q(("fault", ""), _negated=True),
                            ("late_spans__gt", 0),
                            _connector="OR",
                        ),
                        fields=["workflow", "-assembled_at"],
                        name="otlp_run_shown",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OtlpTrace",
            fields=[
                ("trace_id", models.TextField(primary_key=True, serialize=False)),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("due_at", models.DateTimeField(null=True)),
                ("attempts", models.SmallIntegerField(db_default=0, default=0)),
                ("error", models.TextField(db_default="", default="")),
            ],
            options={
                "db_table": "otlp_trace",
                "indexes": [
                    models.Index(
                        condition=models.Q(("due_at", None), _negated=True),
                        fields=["due_at"],
                        name="otlp_trace_due",
                    ),
                    models.Index(fields=["last_at"], name="otlp_trace_last"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SpanMappingVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("document", models.JSONField()),
                ("digest", models.CharField(max_length=64)),
                ("put_at", models.DateTimeField()),
                ("put_by", models.CharField(max_length=150)),
                (
                    "workflow",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="span_mapping_versions",
                        to="catalog.workflow",
                    ),
                ),
            ],
            options={
                "db_table": "otlp_mapping",
                "indexes": [models.Index(fields=["workflow", "-id"], name="otlp_mapping_newest")],
            },
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="OtlpSpan",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "trace_id",
                                "span_id",
                                "started_at",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("started_at", models.DateTimeField()),
                        ("received_at", models.DateTimeField()),
                        ("start_ns", models.BigIntegerField()),
                        ("end_ns", models.BigIntegerField()),
                        ("source_id", models.UUIDField()),
                        ("kind", models.SmallIntegerField()),
                        ("status", models.SmallIntegerField()),
                        ("trace_id", models.TextField()),
                        ("span_id", models.TextField()),
                        ("parent_id", models.TextField(null=True)),
                        ("name", models.TextField()),
                        ("response_id", models.TextField(null=True)),
                        ("reach", models.JSONField(null=True)),
                        ("detail", models.JSONField()),
                    ],
                    options={
                        "db_table": "otlp_span",
                    },
                ),
                migrations.CreateModel(
                    name="OtlpLog",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "digest",
                                "at",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("at", models.DateTimeField()),
                        ("received_at", models.DateTimeField()),
                        ("digest", models.UUIDField()),
                        ("source_id", models.UUIDField()),
                        ("severity", models.SmallIntegerField()),
                        ("tool_requests", models.IntegerField()),
                        ("event", models.TextField()),
                        ("trace_id", models.TextField(null=True)),
                        ("span_id", models.TextField(null=True)),
                        ("detail", models.JSONField()),
                    ],
                    options={
                        "db_table": "otlp_log",
                    },
                ),
            ],
            database_operations=[
                migrations.RunSQL(SPAN_TABLE, "drop table otlp_span"),
                migrations.RunSQL(LOG_TABLE, "drop table otlp_log"),
            ],
        ),
        migrations.RunSQL(DAY_ENSURE, "drop function otlp_day_ensure(text, date)"),
        migrations.RunSQL(DAYS_DROP, "drop function otlp_days_drop(date)"),
    ]
