"""How a day of runs is dropped by the application, and by what the rows about it are found."""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations

# Dropping needs everybody out of `run` for a moment, and whoever comes meanwhile waits behind it.
# So it waits a fifth of a second at most and says false: it is tried again in the next round.
RUN_DAY_DROP = """
create function run_day_drop(day date) returns boolean
language plpgsql security definer
set search_path = public, pg_temp set lock_timeout = '200ms' as $$
declare
    partition text := 'run_' || to_char(day, 'YYYYMMDD');
begin
    if day > (now() at time zone 'UTC')::date - 9 then
        raise exception 'Runs of % still come in.', day;
    end if;
    if to_regclass('public.' || partition) is null then
        return true;
    end if;
    execute format('alter table run detach partition %I', partition);
    execute format('drop table %I', partition);
    return true;
exception when lock_not_available then
    return false;
end
$$
"""


class Migration(migrations.Migration):
    # Indexes are made beside whoever writes.
    atomic = False

    dependencies = [("ingest", "0005_context")]

    operations = [
        migrations.RunSQL(RUN_DAY_DROP, "drop function run_day_drop(date)"),
        AddIndexConcurrently(
            model_name="ingestbatch",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["received_at"], name="batch_received"
            ),
        ),
        AddIndexConcurrently(
            model_name="observation",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["received_at"], name="observation_received"
            ),
        ),
        AddIndexConcurrently(
            model_name="taskfact",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["run_occurred_at"], name="fact_run_occurred"
            ),
        ),
    ]
