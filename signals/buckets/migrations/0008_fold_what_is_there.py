"""Let the new folds hold what was folded before they were.

Longer buckets are only marked, so that the next rounds make them of their minutes a few at a
time. Failures alone stood beside the ledger so far: they are folded here.
"""

from django.db import migrations

MARK = """
insert into stale_bucket (length_s, path_id, minute, since)
select distinct length_s, path_id,
    date_bin(length_s * interval '1 second', minute, 'epoch'::timestamptz), 'epoch'::timestamptz
from minute_bucket cross join unnest(array[300, 3600]) as length_s
on conflict do nothing
"""

FAILURES = """
insert into failure_minute (
    minute, workflow_id, path_id, segment_id, release_id, arm, mode, input_condition, risk,
    category, n, subjects
)
select minute, workflow_id, path_id, segment_id, release_id, arm, mode, input_condition, risk,
    category, sum(n), coalesce((
        select (array_agg(distinct u))[1:100] from failure_ledger as s, unnest(s.subjects) as u
        where s.minute = l.minute and s.workflow_id = l.workflow_id and s.path_id = l.path_id
            and s.segment_id = l.segment_id and s.release_id = l.release_id and s.arm = l.arm
            and s.mode = l.mode and s.input_condition = l.input_condition and s.risk = l.risk
            and s.category = l.category and not exists (
                select from ingest_batch as b where b.seq = s.drain and b.folded_at is null
            )
    ), '{}')
from failure_ledger as l
where not exists (select from ingest_batch as b where b.seq = l.drain and b.folded_at is null)
group by minute, workflow_id, path_id, segment_id, release_id, arm, mode, input_condition, risk,
    category
on conflict do nothing
"""


class Migration(migrations.Migration):
    dependencies = [("buckets", "0007_fold_indexes"), ("ingest", "0005_context")]

    operations = [
        migrations.RunSQL(MARK, migrations.RunSQL.noop),
        migrations.RunSQL(FAILURES, migrations.RunSQL.noop),
    ]
