"""The statements that keep observations and count them with their runs, set by set."""

from typing import Final

from signals.buckets.keys import BLOCK_S, BUCKET_KEY, COUNTS, HISTOGRAMS, SUMS
from signals.ingest.observations import COLUMNS, KINDS, NEGATIVE, VALUES, VERDICTS
from signals.ingest.side_sql import SUBJECTS

_columns: Final = ", ".join(COLUMNS)
_key: Final = ", ".join(BUCKET_KEY)

# Temporary tables are emptied too, for a caller that does not commit in between.
STAGING: Final = (
    "create temp table if not exists observation_staging on commit delete rows as"  # noqa: S608
    f" select {_columns} from public.observation with no data; delete from observation_staging"
)
COPY: Final = f"copy observation_staging ({_columns}) from stdin (null '')"

# Sorted, so that two drains that meet on the same ids wait for each other in one order.
KEEP: Final = f"""
with fresh as (
    insert into observation ({_columns}, received_at, look_at)
    select {", ".join(f"s.{name}" for name in COLUMNS)}, b.received_at, b.received_at
    from observation_staging as s join ingest_batch as b on b.seq = s.drain
    order by s.workflow_id, s.id_hash, s.drain
    on conflict do nothing
    returning drain, workflow_id
)
select drain, workflow_id, count(*) from fresh group by drain, workflow_id
"""  # noqa: S608  # of our own constants

# --- Finding the runs ---

# `run_at` is the occurrence of the run once it is found.
MATCHING: Final = (
    "create temp table if not exists matching on commit delete rows as"  # noqa: S608
    f" select {_columns}, received_at, null::timestamptz as run_at"
    " from public.observation with no data; delete from matching"
)

# `offset 0` keeps these look-ups apart, each by its index: a temporary table has no statistics,
# and the planner would rather read every run than believe that few are asked for.
TAKE_AWAITED: Final = f"""
with came as (
    delete from awaited_run returning workflow_id, run_hash, occurred_at
)
insert into matching ({_columns}, received_at, run_at)
select distinct on (o.workflow_id, o.id_hash) {", ".join(f"o.{name}" for name in COLUMNS)},
    o.received_at, c.occurred_at
from came as c cross join lateral (
    select * from observation as w
    where w.workflow_id = c.workflow_id and w.run_hash = c.run_hash and w.state = 0
        and (w.run_occurred_at is null or w.run_occurred_at = c.occurred_at)
    offset 0
) as o
order by o.workflow_id, o.id_hash, c.occurred_at desc
"""  # noqa: S608  # of our own constants

TAKE_DUE: Final = f"""
insert into matching ({_columns}, received_at)
select {_columns}, received_at from observation as o
where o.state = 0 and o.look_at <= %s and not exists (
    select from matching as m where m.workflow_id = o.workflow_id and m.id_hash = o.id_hash
)
order by o.look_at limit %s
"""  # noqa: S608  # of our own constants

MATCH_TOLD: Final = """
update matching as m set run_at = m.run_occurred_at
where m.run_at is null and m.run_occurred_at is not null and (
    select true from run as r where r.occurred_at = m.run_occurred_at
        and r.workflow_id = m.workflow_id and r.id_hash = m.run_hash
    limit 1
)
"""

UNTOLD: Final = """
select count(*), min(occurred_at), max(occurred_at) from matching
where run_at is null and run_occurred_at is null
"""

# Without the run's time its day is read through once for all that look; the newest run counts.
MATCH_DAY: Final = """
update matching as m set run_at = f.occurred_at
from (
    select distinct on (w.workflow_id, w.run_hash) w.workflow_id, w.run_hash, r.occurred_at
    from matching as w
    join run as r on r.workflow_id = w.workflow_id and r.id_hash = w.run_hash
    where w.run_at is null and w.run_occurred_at is null
        and r.occurred_at >= %s and r.occurred_at < %s
    order by w.workflow_id, w.run_hash, r.occurred_at desc
) as f
where m.workflow_id = f.workflow_id and m.run_hash = f.run_hash
    and m.run_at is null and m.run_occurred_at is null
"""

# --- Counting what was found ---

_SAID: Final = (
    "id_hash",
    "run_hash",
    "run_at",
    "kind",
    "drain",
    "occurred_at",
    "name",
    "passed",
    "score",
    "verdict",
    "value",
    "failure_category",
    "critical",
)
_RAN: Final = (*(name for name in BUCKET_KEY if name != "minute"), "subject", "outcome")

# An observation beside its run; it arrived when both had. Where either is history, what they say
# together is, and arrived when it happened.
ATTRIBUTED: Final = f"""
create temp table if not exists attributed on commit delete rows as
select {", ".join(f"m.{name}" for name in _SAID)}, {", ".join(f"r.{name}" for name in _RAN)},
    m.received_at as arrived_at, true as backfill, r.occurred_at as minute, true as counts,
    r.quality_passed as run_passed, r.quality_score as run_score, r.critical as run_critical,
    r.failure_category as run_category
from matching as m cross join public.run as r
with no data;
delete from attributed
"""  # noqa: S608  # of our own constants

ATTRIBUTE: Final = f"""
insert into attributed
select {", ".join(f"m.{name}" for name in _SAID)}, {", ".join(f"r.{name}" for name in _RAN)},
    case when h.backfill then greatest(m.occurred_at, r.occurred_at)
        else greatest(m.received_at, b.received_at) end,
    h.backfill, date_bin('1 minute', r.occurred_at, 'epoch'::timestamptz), r.drill is null,
    r.quality_passed, r.quality_score, r.critical, r.failure_category
from matching as m cross join lateral (
    select * from run as q where q.occurred_at = m.run_at
        and q.workflow_id = m.workflow_id and q.id_hash = m.run_hash
    offset 0
) as r
left join ingest_batch as b on b.seq = r.drain
left join ingest_batch as s on s.seq = m.drain
cross join lateral (
    select coalesce(b.backfill, false) or coalesce(s.backfill, false) as backfill
) as h
where m.run_at is not null
"""  # noqa: S608  # of our own constants

_negative: Final = ", ".join(str(VALUES[name]) for name in sorted(NEGATIVE))
_run: Final = "workflow_id, run_hash, run_at"
_word: Final = f"(array[{', '.join(repr(word) for word in VALUES)}])[value + 1]"

# What an observation adds, of all that a ledger row holds.
_ADDED: Final = {
    "n_critical": "count(*) filter (where 'critical' = any(facts))",
    "quality_n": "count(*) filter (where 'passed' = any(facts))",
    "quality_passed": "count(*) filter (where 'passed' = any(facts) and passed)",
    "score_n": "count(*) filter (where 'score' = any(facts))",
    "score_sum": "coalesce(sum(score) filter (where 'score' = any(facts)), 0)",
    "score_sq": "coalesce(sum(score * score) filter (where 'score' = any(facts)), 0)",
    "labelled": "count(*) filter (where 'label' = any(facts))",
    "reviews_n": "count(verdict)",
    "reviews_edited": f"count(*) filter (where verdict = {VERDICTS['edited']})",
    "reviews_rejected": f"count(*) filter (where verdict = {VERDICTS['rejected']})",
    "feedback_positive": "count(*) filter (where 'positive' = any(facts))",
    "feedback_negative": "count(*) filter (where 'negative' = any(facts))",
}
# Whether an evaluation is the first of its name that told this of its task.
_scored: Final = "'score:' || name = any(facts)"
_judged: Final = "'passed:' || name = any(facts)"
_measures: Final = (*COUNTS, *SUMS)
_arrays: Final = tuple(f"{name}_{part}" for name in HISTOGRAMS for part in ("idx", "cnt"))


# A fact is counted for the first observation that brings it, unless the run itself did: one
# task's quality is never counted twice. Reviews are counted one by one. What is told of one task
# several times over, such as feedback of two kinds, says what was told `before`: so that the task
# counts once in any set of them. In the order in which observations were accepted, so that
# counting again says the same.
def _count(*, won_before: str = "") -> str:
    return f"""
with brought as (
    select {_run}, fact, id_hash, drain, occurred_at
    from attributed cross join lateral (values
        ('passed', passed is not null and run_passed is null),
        ('score', score is not null and run_score is null),
        ('label', num_nonnulls(passed, score) > 0 and num_nonnulls(run_passed, run_score) = 0),
        ('critical', critical and not run_critical),
        ('positive', value = {VALUES["up"]}),
        ('negative', value in ({_negative})),
        ('failure:' || failure_category, failure_category is distinct from run_category),
        ('feedback:' || {_word}, true),
        ('passed:' || name, passed is not null),
        ('score:' || name, score is not null)
    ) as f(fact, holds)
    where counts and holds and fact is not null{won_before}
), won as (
    insert into task_fact (workflow_id, run_hash, run_occurred_at, fact, observation)
    select distinct on ({_run}, fact) {_run}, fact, id_hash from brought
    order by {_run}, fact, drain, occurred_at, id_hash
    on conflict do nothing
    returning workflow_id, run_hash, run_occurred_at, observation, fact
), chained as (
    select w.workflow_id, w.observation, w.kind, w.word, array(
        select unnest(w.beside)
        union all
        select substr(f.fact, strpos(f.fact, ':') + 1) from task_fact as f
        where f.workflow_id = w.workflow_id and f.run_hash = w.run_hash
            and f.run_occurred_at = w.run_occurred_at
            and split_part(f.fact, ':', 1) = w.kind
    ) as before
    from (
        select *, array_agg(word) over (
            partition by workflow_id, run_hash, run_occurred_at, kind
            order by drain, word rows between unbounded preceding and 1 preceding
        ) as beside
        from (
            select won.*, a.drain, split_part(fact, ':', 1) as kind,
                substr(fact, strpos(fact, ':') + 1) as word
            from won join attributed as a
                on a.workflow_id = won.workflow_id and a.id_hash = won.observation
        ) as v
        where kind in ('feedback', 'failure')
    ) as w
), told as (
    select a.*, w.facts from attributed as a left join (
        select workflow_id, observation, array_agg(fact) as facts from won group by 1, 2
    ) as w on w.workflow_id = a.workflow_id and w.observation = a.id_hash
    where a.counts and (w.facts is not null or a.verdict is not null)
), failed as (
    insert into failure_ledger (drain, arrived_at, backfill, {_key}, category, n, subjects)
    select %(drain)s, arrived_at, backfill, {_key}, failure_category, count(*), {SUBJECTS}
    from told where 'failure:' || failure_category = any(facts)
    group by arrived_at, backfill, {_key}, failure_category
), said as (
    insert into word_ledger (
        drain, arrived_at, backfill, {_key}, kind, word, outcome, before, n
    )
    select %(drain)s, arrived_at, backfill, {_key}, c.kind, c.word, outcome, b.before, count(*)
    from told join chained as c using (workflow_id) cross join lateral (
        select array(
            select unnest(c.before)
            union select run_category where run_category is not null and c.kind = 'failure'
            order by 1
        ) as before
    ) as b
    where c.observation = id_hash
    group by arrived_at, backfill, {_key}, c.kind, c.word, outcome, b.before
), evaluated as (
    insert into evaluation_ledger (
        drain, arrived_at, backfill, {_key}, name, n, score_n, score_sum, score_sq, passed_n, passed
    )
    select %(drain)s, arrived_at, backfill, {_key}, name, count(*),
        count(*) filter (where {_scored}), coalesce(sum(score) filter (where {_scored}), 0),
        coalesce(sum(score * score) filter (where {_scored}), 0),
        count(*) filter (where {_judged}), count(*) filter (where {_judged} and passed)
    from told where {_scored} or {_judged}
    group by arrived_at, backfill, {_key}, name
)
insert into arrival_ledger (
    drain, block, arrived_at, backfill, {_key}, {", ".join(_measures)}, {", ".join(_arrays)}
)
select %(drain)s, floor(extract(epoch from arrived_at) / {BLOCK_S}), arrived_at, backfill, {_key},
    {", ".join(_ADDED.get(name, "0") for name in _measures)}, {", ".join(["'{}'"] * len(_arrays))}
from told group by arrived_at, backfill, {_key}
"""  # noqa: S608  # of our own constants


COUNT: Final = _count()
# For counting again: only what was counted for the task then.
RECOUNT: Final = _count(
    won_before="""
        and exists (
            select from public.task_fact as t where t.workflow_id = attributed.workflow_id
                and t.run_hash = attributed.run_hash and t.run_occurred_at = attributed.run_at
                and t.fact = f.fact and t.observation = attributed.id_hash
        )"""
)
MATCH_AGAIN: Final = f"""
insert into matching ({_columns}, received_at, run_at)
select {_columns}, received_at, run_occurred_at from observation
where state = 1 and run_occurred_at >= %(since)s and run_occurred_at < %(until)s
union all
select {", ".join(f"o.{name}" for name in COLUMNS)}, o.received_at, r.occurred_at
from observation as o join public.run as r
    on r.workflow_id = o.workflow_id and r.id_hash = o.run_hash
    and r.occurred_at >= %(since)s and r.occurred_at < %(until)s
where o.state = 1 and o.run_occurred_at is null
"""  # noqa: S608  # of our own constants

CLOSE_REVIEWS: Final = f"""
update requested_review as q
set closed_at = greatest(q.asked_at, a.occurred_at), closed_drain = %(drain)s
from (
    select {_run}, min(occurred_at) as occurred_at from attributed
    where kind = {KINDS["review"]} group by {_run}
) as a
where q.workflow_id = a.workflow_id and q.run_hash = a.run_hash and q.asked_at = a.run_at
    and q.closed_at is null
"""  # noqa: S608  # of our own constants

SETTLE: Final = """
update observation as o set state = 1 from matching as m
where o.workflow_id = m.workflow_id and o.id_hash = m.id_hash and m.run_at is not null
"""

# The next look comes after 2, 8, 32 … seconds, at most a day: it only closes the race between a
# run and an observation that were drained at the same moment. After the wait it is the last.
WAIT_ON: Final = """
with waiting as (
    update observation as o set looks = o.looks + 1,
        state = case when m.received_at + %(wait)s <= %(now)s then 2 else 0 end,
        look_at = least(
            m.received_at + %(wait)s,
            %(now)s + least(2 * 4 ^ least(o.looks, 9), 86400) * interval '1 second'
        )
    from matching as m
    where o.workflow_id = m.workflow_id and o.id_hash = m.id_hash and m.run_at is null
    returning o.drain, o.state
)
update ingest_batch as b set unknown_runs = b.unknown_runs + u.n
from (select drain, count(*) as n from waiting where state = 2 group by drain) as u
where b.seq = u.drain
"""
