"""What stands beside the arrival ledger: its key parted by one value more, and what that adds.

Each side is one statement over the new runs of a drain (`fresh`), in the same transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from signals.buckets.keys import (
    BUCKET_KEY,
    HISTOGRAM_PER_DOUBLING,
    MODE_NORMAL,
    SUBJECTS_MAX,
)
from signals.ingest.rows import OUTCOMES, SMALLEST

_key: Final = ", ".join(BUCKET_KEY)
_kept_key: Final = ", ".join(f"k.{name}" for name in BUCKET_KEY)


def bucket(value: str) -> str:
    """SQL for the histogram bucket of a positive value; see signals.buckets.keys.

    ln(8)/ln(2) comes out a hair above 3, so a hair is taken off before rounding up.
    """
    return f"ceil(ln({value}) * {HISTOGRAM_PER_DOUBLING} / ln(2::float8) - 1e-9)::int - 1"


def histogram(name: str) -> str:
    """SQL that joins the counts by bucket of the array `k.<name>_all`."""
    return f"""
    left join lateral (
        select array_agg(idx order by idx) as idx, array_agg(cnt order by idx) as cnt
        from (select idx, count(*)::int as cnt from unnest(k.{name}_all) as idx group by idx) as q
    ) as {name} on true"""  # noqa: S608  # of our own constants


# Hashes, so that the pseudonyms stand in one place only; capped, so that a row stays small.
SUBJECTS: Final = (
    "coalesce((array_agg(distinct hashtextextended(subject, 0))"
    f" filter (where subject is not null))[1:{SUBJECTS_MAX}], '{{}}')"
)


@dataclass(frozen=True, slots=True)
class Side:
    """One ledger beside the arrival ledger.

    Attributes:
        table: where its rows go.
        columns: by name of a column that parts the key further, its SQL over a new run.
        where: which new runs have it.
        adds: by name of a column, the SQL that aggregates the new runs of one key.
        histograms: by name before `idx` and `cnt`, a value of a new run; those above 0 count.
        source: what is read instead of `fresh`, which it holds under that name.
    """

    table: str
    columns: Mapping[str, str]
    where: str
    adds: Mapping[str, str]
    histograms: Mapping[str, str] = field(default_factory=dict)
    source: str = "fresh"

    def append(self, *, backfill: bool) -> str:
        """Return the part of the drain's statement that appends what the new runs add.

        What is live arrives when its batch was received; history arrives when it happened.
        """
        by_block, newest, arrived_at = "", "", "b.received_at"
        if backfill:
            by_block, newest = "block, ", "max(occurred_at) as newest_at, "
            arrived_at = "k.newest_at"
        # A name ends in `_` where one ledger has several histograms.
        arrays = [f"{name}{part}" for name in self.histograms for part in ("idx", "cnt")]
        parts = ", ".join(self.columns)
        read = ", ".join(
            [
                *(f"{sql} as {name}" for name, sql in self.columns.items()),
                *(f"{sql} as {name}" for name, sql in self.adds.items()),
                *(
                    f"array_agg({bucket(sql)}) filter (where {sql} > 0) as h{place}_all"
                    for place, sql in enumerate(self.histograms.values())
                ),
            ]
        )
        kept = ", ".join(
            [
                *(f"k.{name}" for name in (*self.columns, *self.adds)),
                *(
                    f"coalesce(h{place}.{part}, '{{}}')"
                    for place in range(len(self.histograms))
                    for part in ("idx", "cnt")
                ),
            ]
        )
        joined = "".join(histogram(f"h{place}") for place in range(len(self.histograms)))
        return f"""{self.table}_appended as (
    insert into {self.table} (
        drain, arrived_at, backfill, {_key}, {", ".join([*self.columns, *self.adds, *arrays])}
    )
    select k.drain, {arrived_at}, {str(backfill).lower()}, {_kept_key}, {kept}
    from (
        select drain, {by_block}{_key}, {newest}{read}
        from {self.source} where counts and {self.where}
        group by drain, {by_block}{_key}, {parts}
    ) as k join ingest_batch as b on b.seq = k.drain{joined}
)"""  # noqa: S608  # of our own constants


SIDES: Final = (
    Side(
        table="failure_ledger",
        columns={"category": "failure_category"},
        where="failure_category is not null",
        adds={"n": "count(*)", "subjects": SUBJECTS},
    ),
    Side(
        table="word_ledger",
        columns={
            "kind": "'failure'",
            "word": "failure_category",
            "outcome": "outcome",
            "before": "'{}'::text[]",
        },
        where="failure_category is not null",
        adds={"n": "count(*)"},
    ),
    Side(
        table="route_ledger",
        columns={"route": "route"},
        where="route is not null",
        adds={
            "n": "count(*)",
            "n_error": f"count(*) filter (where outcome = {OUTCOMES['error']})",
            "fallback_n": "count(*) filter"
            f" (where mode <> {MODE_NORMAL} or outcome = {OUTCOMES['fallback']})",
            "latency_n": "count(latency_ms)",
            "latency_sum": "coalesce(sum(latency_ms), 0)",
            "latency_max": "max(latency_ms)",
            "latency_zero": "count(*) filter (where latency_ms = 0)",
            "cost_n": "count(cost_usd)",
            "cost_sum": "coalesce(sum(cost_usd), 0)",
            "cost_sq": "coalesce(sum(cost_usd * cost_usd), 0)",
        },
        histograms={"latency_": "latency_ms"},
    ),
    Side(
        table="measure_ledger",
        columns={"name": "m.key"},
        where="measures is not null",
        adds={
            "n": "count(*)",
            "total": "sum(m.value)",
            "squares": "sum(m.value * m.value)",
            "least": "min(m.value)",
            "largest": "max(m.value)",
            "zero": "count(*) filter (where m.value = 0)",
        },
        histograms={"": "m.value", "negative_": "(-m.value)"},
        # What is next to nothing is nothing: its square would be no number any more.
        source="fresh cross join lateral"  # noqa: S608  # of our own constants
        f" (select key, case when abs(value::float8) < {SMALLEST} then 0 else value::float8 end"
        " as value from jsonb_each_text(measures)) as m",
    ),
    Side(
        table="mix_ledger",
        columns={"attribute": "c.key", "value": "c.value"},
        where="context is not null",
        # Contexts are few beside runs, so they are counted whole before they are taken apart.
        adds={"n": "sum(times)"},
        source=f"(select drain, block, {_key}, counts, context, max(occurred_at) as occurred_at,"  # noqa: S608
        " count(*) as times from fresh where context is not null"
        f" group by drain, block, {_key}, counts, context) as f"
        " cross join lateral jsonb_each_text(context) as c",
    ),
)
