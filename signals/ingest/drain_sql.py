"""The drain's statements: stage, keep what is new, append the ledgers, count."""

from typing import Final

from signals.buckets.keys import BLOCK_S, BUCKET_KEY, MODE_NORMAL
from signals.ingest.rows import COLUMNS, OUTCOMES
from signals.ingest.side_sql import SIDES, bucket, histogram

_columns: Final = ", ".join(COLUMNS)

# Emptied too, for a caller that does not commit in between.
STAGING: Final = (
    "create temp table if not exists run_staging (like public.run) on commit delete rows;"
    " delete from run_staging"
)
COPY: Final = f"copy run_staging ({_columns}) from stdin (null '')"

# What the ledger counts, of one key's new runs.
_COUNTS: Final = {
    "n": "count(*)",
    **{f"n_{name}": f"count(*) filter (where outcome = {code})" for name, code in OUTCOMES.items()},
    "n_critical": "count(*) filter (where critical)",
    "fallback_n": "count(*) filter"
    f" (where mode <> {MODE_NORMAL} or outcome = {OUTCOMES['fallback']})",
    "labelled": "count(*) filter (where quality_passed is not null or quality_score is not null)",
    "review_requested": "count(*) filter (where review_requested)",
    "quality_n": "count(quality_passed)",
    "quality_passed": "count(*) filter (where quality_passed)",
    "score_n": "count(quality_score)",
    "score_sum": "coalesce(sum(quality_score), 0)",
    "score_sq": "coalesce(sum(quality_score * quality_score), 0)",
    "latency_n": "count(latency_ms)",
    "latency_sum": "coalesce(sum(latency_ms), 0)",
    "latency_sq": "coalesce(sum(latency_ms * latency_ms), 0)",
    "latency_max": "max(latency_ms)",
    "latency_zero": "count(*) filter (where latency_ms = 0)",
    "cost_n": "count(cost_usd)",
    "cost_sum": "coalesce(sum(cost_usd), 0)",
    "cost_sq": "coalesce(sum(cost_usd * cost_usd), 0)",
    "cost_max": "max(cost_usd)",
    "cost_zero": "count(*) filter (where cost_usd = 0)",
    "input_tokens_n": "count(input_tokens)",
    "input_tokens_sum": "coalesce(sum(input_tokens), 0)",
    "input_tokens_sq": "coalesce(sum(input_tokens::float8 * input_tokens), 0)",
    "output_tokens_n": "count(output_tokens)",
    "output_tokens_sum": "coalesce(sum(output_tokens), 0)",
    "output_tokens_sq": "coalesce(sum(output_tokens::float8 * output_tokens), 0)",
    "context_tokens_n": "count(context_tokens)",
    "context_tokens_sum": "coalesce(sum(context_tokens), 0)",
    "retries_n": "count(retries)",
    "retries_sum": "coalesce(sum(retries), 0)",
    "retries_sq": "coalesce(sum(retries::float8 * retries), 0)",
    "steps_n": "count(steps)",
    "steps_sum": "coalesce(sum(steps), 0)",
    "tool_calls_n": "count(tool_calls)",
    "tool_calls_sum": "coalesce(sum(tool_calls), 0)",
    "retrieved_n": "count(retrieved)",
    "retrieved_empty": "count(*) filter (where retrieved = 0)",
    "retrieval_score_n": "count(retrieval_score)",
    "retrieval_score_sum": "coalesce(sum(retrieval_score), 0)",
    "retrieval_score_sq": "coalesce(sum(retrieval_score * retrieval_score), 0)",
    "confidence_n": "count(confidence)",
    "confidence_sum": "coalesce(sum(confidence), 0)",
    "confidence_sq": "coalesce(sum(confidence * confidence), 0)",
}


_key: Final = ", ".join(BUCKET_KEY)
_kept_key: Final = ", ".join(f"k.{name}" for name in BUCKET_KEY)
_counted: Final = ",\n        ".join(f"{sql} as {name}" for name, sql in _COUNTS.items())
_kept: Final = ", ".join(f"k.{name}" for name in _COUNTS)


# What is counted of a run.
_COUNTED_OF: Final = f"""id_hash, failure_category, subject, route, measures, context, drain,
        date_bin('1 minute', occurred_at, 'epoch'::timestamptz) as minute,
        workflow_id, path_id, segment_id, release_id, arm, mode, input_condition, risk,
        outcome, critical, review_requested, quality_passed, quality_score, latency_ms, cost_usd,
        input_tokens, output_tokens, context_tokens, retries, steps, tool_calls, retrieved,
        retrieval_score, confidence, drill is null as counts,
        occurred_at, floor(extract(epoch from occurred_at) / {BLOCK_S})::bigint as block"""

# Sorted before it is inserted: two drains that meet on the same runs then wait for each other
# in one order, never in a circle.
_STAGED: Final = f"""fresh as (
    insert into run ({_columns})
    select {_columns} from run_staging order by occurred_at, workflow_id, id_hash
    on conflict do nothing
    returning {_COUNTED_OF}
)"""  # noqa: S608  # of our own constants


def _stored(*, backfill: bool) -> str:
    """SQL of runs in [since, until) as if they were new, and of their batches.

    A batch that is not kept any more was a live one; when it was received is not known.
    """
    return f"""ingest_batch as (
    select d.drain as seq, coalesce(b.received_at, 'epoch'::timestamptz) as received_at
    from (
        select distinct drain from public.run
        where occurred_at >= %(since)s and occurred_at < %(until)s
    ) as d left join public.ingest_batch as b on b.seq = d.drain
    where coalesce(b.backfill, false) = {str(backfill).lower()}
), fresh as (
    select {_COUNTED_OF} from public.run
    where occurred_at >= %(since)s and occurred_at < %(until)s
        and drain in (select seq from ingest_batch)
)"""  # noqa: S608  # of our own constants


# A row for each drain, workflow and path: how many runs came, how many of them were new, and when
# the newest happened.
_BROUGHT: Final = """
select s.drain, s.workflow_id, s.path_id, s.n, coalesce(f.n, 0), s.newest_at
from (
    select drain, workflow_id, path_id, count(*) as n, max(occurred_at) as newest_at
    from run_staging group by drain, workflow_id, path_id
) as s
left join (
    select drain, workflow_id, path_id, count(*) as n
    from fresh group by drain, workflow_id, path_id
) as f using (drain, workflow_id, path_id)
"""
_COUNTED: Final = "select drain, count(*) from fresh group by drain"


def _keep(fresh: str, *, backfill: bool, answer: str) -> str:
    """SQL that appends to the ledgers what the runs of the common table `fresh` add.

    What is live arrives when its batch was received; history arrives when it happened, and asks
    nobody for a review any more.
    """
    by_block, newest = "", ""
    block, arrived_at = f"floor(extract(epoch from b.received_at) / {BLOCK_S})", "b.received_at"
    if backfill:
        by_block, newest = "block, ", "max(occurred_at) as newest_at,"
        block, arrived_at = "k.block", "k.newest_at"
    sides = ", ".join(side.append(backfill=backfill) for side in SIDES)
    return f"""
with {fresh}, k as (
    select drain, {by_block}{_key}, {newest}
        {_counted},
        array_agg({bucket("latency_ms")}) filter (where latency_ms > 0) as latency_all,
        array_agg({bucket("cost_usd")}) filter (where cost_usd > 0) as cost_all
    from fresh where counts
    group by drain, {by_block}{_key}
), appended as (
    insert into arrival_ledger (
        drain, block, arrived_at, backfill, {_key}, {", ".join(_COUNTS)},
        latency_idx, latency_cnt, cost_idx, cost_cnt
    )
    select k.drain, {block}, {arrived_at}, {str(backfill).lower()}, {_kept_key},
        {_kept},
        coalesce(latency.idx, '{{}}'), coalesce(latency.cnt, '{{}}'),
        coalesce(cost.idx, '{{}}'), coalesce(cost.cnt, '{{}}')
    from k join ingest_batch as b on b.seq = k.drain
    {histogram("latency")}
    {histogram("cost")}
), {sides}, asked as (
    insert into requested_review (
        workflow_id, run_hash, asked_at, path_id, segment_id, release_id, arm, mode, opened_drain
    )
    select workflow_id, id_hash, occurred_at, path_id, segment_id, release_id, arm, mode, drain
    from fresh where counts and review_requested and not {str(backfill).lower()}
    on conflict do nothing
)
{answer}
"""  # noqa: S608  # of our own constants


KEEP: Final = _keep(_STAGED, backfill=False, answer=_BROUGHT)
KEEP_BACKFILL: Final = _keep(_STAGED, backfill=True, answer=_BROUGHT)
# The same of runs that are stored, for temporary tables of the ledgers' names.
RECOUNT: Final = tuple(
    _keep(_stored(backfill=kind), backfill=kind, answer=_COUNTED) for kind in (False, True)
)

# What observations wait for is noted, not looked for: with none waiting this costs one look.
AWAITED: Final = """
insert into awaited_run (workflow_id, run_hash, occurred_at)
select s.workflow_id, s.id_hash, s.occurred_at
from run_staging as s cross join lateral (
    select from observation as o
    where o.workflow_id = s.workflow_id and o.run_hash = s.id_hash and o.state = 0
        and (o.run_occurred_at is null or o.run_occurred_at = s.occurred_at)
    limit 1
) as waits
where exists (select from observation where state = 0)
"""
