"""Who waited for a day that another was making finds it made, as for days of runs."""

from django.db import migrations

# Why by a select and not by `to_regclass`: signals/ingest/migrations/0010_day_seen.py.
DAY_ENSURE = """
create or replace function otlp_day_ensure(parent text, day date) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := parent || '_' || to_char(day, 'YYYYMMDD');
    starts timestamptz := day::timestamp at time zone 'UTC';
    ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if parent not in ('otlp_span', 'otlp_log') then
        raise exception 'no days of % are kept', parent;
    end if;
    if exists (
        select from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where c.relname = partition and i.inhparent = parent::regclass
    ) then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('otlp_day_ensure', 0));
    if exists (
        select from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where c.relname = partition and i.inhparent = parent::regclass
    ) then
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


class Migration(migrations.Migration):
    dependencies = [("otlp", "0002_cumulative")]

    operations = [migrations.RunSQL(DAY_ENSURE, migrations.RunSQL.noop)]
