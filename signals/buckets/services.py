"""Fold the arrival ledger into minute buckets, each drained batch exactly once."""

from datetime import datetime
from typing import Final

from django.db import connection, transaction

from signals.buckets.keys import BUCKET_KEY, COUNTS, HISTOGRAMS, MAXIMA, SUMS

# One folder at a time: it reads a bucket, adds, and writes it back.
LOCK_KEY: Final = 0x666F6C64
BATCHES_AT_ONCE: Final = 100

_key: Final = ", ".join(BUCKET_KEY)
_arrays: Final = tuple(f"{name}_{part}" for name in HISTOGRAMS for part in ("idx", "cnt"))
_plain: Final = (*COUNTS, *SUMS, *MAXIMA)
_measures: Final = ", ".join((*_plain, *_arrays))
_added: Final = ", ".join(
    [f"sum({name}) as {name}" for name in (*COUNTS, *SUMS)]
    + [f"max({name}) as {name}" for name in MAXIMA]
)


def _merged(name: str) -> str:
    return f"""
{name} as (
    select {_key},
        array_agg(idx order by idx) as {name}_idx, array_agg(cnt order by idx) as {name}_cnt
    from (
        select {_key}, u.idx, sum(u.cnt)::int as cnt
        from parts, unnest({name}_idx, {name}_cnt) as u(idx, cnt)
        group by {_key}, u.idx
    ) as q
    group by {_key}
)"""  # noqa: S608  # of our own constants


FOLD: Final = f"""
with arrived as (
    select {_key}, {_measures} from arrival_ledger where drain = any(%s)
), parts as (
    select {_key}, {_measures} from arrived
    union all
    select {_key}, {_measures} from minute_bucket join (select distinct {_key} from arrived) as t
        using ({_key})
), sums as (
    select {_key}, {_added} from parts group by {_key}
), {",".join(_merged(name) for name in HISTOGRAMS)}
insert into minute_bucket ({_key}, {_measures})
select {_key}, {", ".join(_plain)}, {", ".join(f"coalesce({name}, '{{}}')" for name in _arrays)}
from sums {" ".join(f"left join {name} using ({_key})" for name in HISTOGRAMS)}
on conflict ({_key}) do update set
    {", ".join(f"{name} = excluded.{name}" for name in (*_plain, *_arrays))}
"""  # noqa: S608  # of our own constants


def buckets_fold(*, now: datetime) -> int:
    """Add every drained batch not yet folded to the minute buckets; return how many there were.

    Returns at once where another process is folding.
    """
    folded = 0
    while batches := _some_fold(now=now):
        folded += batches
    return folded


@transaction.atomic
def _some_fold(*, now: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(
            "select seq from ingest_batch where state = 'drained' and folded_at is null"
            " order by seq limit %s",
            [BATCHES_AT_ONCE],
        )
        batches = [seq for (seq,) in cursor.fetchall()]
        if batches:
            cursor.execute(FOLD, [batches])
            # Beside the sums, in one transaction: that is what makes it once.
            cursor.execute(
                "update ingest_batch set folded_at = %s where seq = any(%s)", [now, batches]
            )
        return len(batches)
