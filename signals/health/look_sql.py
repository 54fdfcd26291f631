"""The statements of a look at what was drained: stage its runs, then count what they tell."""

from typing import Final

from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE, MODES

# The oldest drained batches not looked at yet, up to so many reports, one at least.
DUE: Final = """
with due as materialized (
    select seq, n_accepted from ingest_batch where health_due and state = 'drained'
    order by seq limit %s for update skip locked
)
select seq from (select seq, sum(n_accepted) over (order by seq) - n_accepted as before from due) d
where before < %s order by seq
"""

DONE: Final = "update ingest_batch set health_due = false where seq = any(%s)"

# Temporary tables are emptied too, for a caller that does not commit in between.
STAGING: Final = """
create temp table if not exists health_staging (
    workflow_id int, path_id int, segment_id int, release_id int, arm smallint, mode smallint,
    source text, received_at timestamptz, occurred_at timestamptz, id_hash uuid, run_id text,
    subject bigint, exposure_version bigint
) on commit delete rows; delete from health_staging
"""

# Runs are found by the event minutes that their drains wrote to the ledger: the run table's only
# index begins with the time, and another one would be paid for by every run that is drained.
STAGE: Final = """
insert into health_staging
select r.workflow_id, r.path_id, r.segment_id, r.release_id, r.arm, r.mode, b.token_name,
    b.received_at, r.occurred_at, r.id_hash, r.run_id, hashtextextended(r.subject, 0),
    r.exposure_version
from (
    select distinct workflow_id, minute from arrival_ledger
    where drain = any(%(drains)s) and n > 0 and not backfill
) as m cross join lateral (
    select * from run as q
    where q.occurred_at >= m.minute and q.occurred_at < m.minute + interval '1 minute'
        and q.workflow_id = m.workflow_id and q.drain = any(%(drains)s) and q.drill is null
    offset 0
) as r join ingest_batch as b on b.seq = r.drain
"""

# Per path and source, and per path with source null.
FEEDS: Final = """
select path_id, source, count(*), min(received_at), max(received_at),
    min(lag), percentile_cont(0.5) within group (order by lag),
    percentile_cont(0.95) within group (order by lag), count(*) filter (where lag < %s)
from (
    select path_id, source, received_at,
        extract(epoch from received_at - occurred_at)::float8 as lag
    from health_staging
) as s group by grouping sets ((path_id), (path_id, source))
"""

LABELS: Final = """
select path_id, max(arrived_at) from arrival_ledger
where drain = any(%s) and not backfill and (quality_n > 0 or score_n > 0) group by 1
"""

# The times between which another run of the same id is looked for.
SPAN: Final = "select count(*), min(occurred_at), max(occurred_at) from health_staging"

REUSED: Final = """
select s.path_id, s.source, count(distinct s.id_hash), min(s.run_id)
from health_staging as s join run as r
    on r.workflow_id = s.workflow_id and r.id_hash = s.id_hash and r.occurred_at <> s.occurred_at
where r.occurred_at >= %s and r.occurred_at <= %s
group by 1, 2
"""

# Runs of an open epoch: those answered from an older exposure version say nothing of this one.
_IN_EPOCH: Final = f"""
    from assignment_epoch as e join health_staging as s
        on s.path_id = e.path_id and s.segment_id = e.segment_id
        and s.arm in ({ARM_STABLE}, {ARM_CANDIDATE})
        and s.occurred_at >= e.started_at
        and (s.exposure_version is null or s.exposure_version >= e.exposure_version)
    where e.ended_at is null
"""

# Each person once, on the arm on which it was first seen; the key is what makes it once.
ASSIGN: Final = f"""
with came as (
    select e.id as epoch_id, s.subject, s.arm, s.occurred_at,
        case when s.mode = {MODES["previous_stable"]} then s.release_id <> e.stable_id
            when s.mode = {MODES["manual"]} then s.release_id <> 0
            when s.arm = {ARM_CANDIDATE} then s.release_id <> e.candidate_id
            when e.stable_id <> 0 then s.release_id <> e.stable_id
            else s.release_id <> 0 end as wrong
    {_IN_EPOCH}
), fresh as (
    insert into assignment_subject (epoch_id, subject, arm, seen_at)
    select distinct on (epoch_id, subject) epoch_id, subject, arm, occurred_at
    from came where subject is not null
    order by epoch_id, subject, occurred_at, arm
    on conflict do nothing
    returning epoch_id, subject, arm
), people as (
    select epoch_id, count(*) filter (where arm = {ARM_CANDIDATE}) as candidate,
        count(*) filter (where arm = {ARM_STABLE}) as stable
    from fresh group by 1
), tasks as (
    select c.epoch_id, count(*) as n, count(*) filter (where c.subject is null) as nobody,
        count(*) filter (where c.wrong) as wrong,
        count(*) filter (where c.arm <> coalesce(f.arm, k.arm)) as crossed
    from came as c
    left join fresh as f on f.epoch_id = c.epoch_id and f.subject = c.subject
    left join assignment_subject as k on k.epoch_id = c.epoch_id and k.subject = c.subject
    group by 1
)
update assignment_epoch as e set
    n_candidate = e.n_candidate + coalesce(p.candidate, 0),
    n_stable = e.n_stable + coalesce(p.stable, 0),
    n_tasks = e.n_tasks + t.n,
    n_without_subject = e.n_without_subject + t.nobody,
    n_crossed = e.n_crossed + t.crossed,
    n_wrong = e.n_wrong + t.wrong
from tasks as t left join people as p on p.epoch_id = t.epoch_id
where e.id = t.epoch_id
"""  # noqa: S608  # of our own constants

# No report of an epoch that is so long over comes any more, so nobody is counted again.
FORGET: Final = """
delete from assignment_subject where ctid = any(array(
    select s.ctid from assignment_epoch as e join assignment_subject as s on s.epoch_id = e.id
    where e.ended_at < %s limit %s
))
"""
