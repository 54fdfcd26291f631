"""Who waited for a day that another was making finds it made, and does not make it again."""

from django.db import migrations

# `to_regclass` answers from the session's cache, and waiting for an advisory lock does not empty
# that: whoever had found no such day went on finding none. A select reads what has been committed
# by the time it begins.
RUN_DAY_ENSURE = """
create or replace function run_day_ensure(day date) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    partition text := 'run_' || to_char(day, 'YYYYMMDD');
    starts timestamptz := day::timestamp at time zone 'UTC';
    ends timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if exists (
        select from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where c.relname = partition and i.inhparent = 'run'::regclass
    ) then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('run_day_ensure', 0));
    if exists (
        select from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where c.relname = partition and i.inhparent = 'run'::regclass
    ) then
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
    dependencies = [("ingest", "0009_health")]

    operations = [migrations.RunSQL(RUN_DAY_ENSURE, migrations.RunSQL.noop)]
