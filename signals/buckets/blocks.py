"""Evidence blocks: in which order statistical guards take in what was drained, each row once.

A block is the 5 seconds in which batches were received. It closes when it is over and nothing
that was received in it waits to be drained, so that neither the order of drains nor how often
somebody looks moves a row to another block. What comes all the same later (labels that were
counted after their batch, a batch that failed at first) joins the block after the last one that
was taken. Which drain is in which block is kept for as long as the ledger, so that evidence can be
made again from both at any time.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from django.db import connection

from signals.buckets.arrivals import Arrivals, Place
from signals.buckets.fed import block_parts
from signals.buckets.keys import BLOCK_S
from signals.buckets.measures import COUNTED, SUMMED, Measures
from signals.buckets.models import EvidenceBlock
from signals.buckets.scopes import SCOPE, Scope
from signals.catalogue import Signal

# Drains read in one query: bounds the memory of evidence that is made again.
DRAINS_AT_ONCE: Final = 5_000
_LABELS_WAIT: Final = timedelta(days=9)


def blocks_close(*, now: datetime) -> int:
    """Close the evidence blocks that are over; return the number of the last one, 0 for none.

    Runs in the caller's transaction, which holds the lock of those who look.
    """
    with connection.cursor() as cursor:
        # What failed waits for a time of its own and holds nobody up; history is no evidence.
        cursor.execute(
            "select min(received_at) from ingest_batch"
            " where state = 'pending' and not backfill and attempts = 0"
        )
        (waiting,) = cursor.fetchone()
        end = _start(min(now, waiting) if waiting is not None else now)
        cursor.execute("select coalesce(max(number), 0) from evidence_block")
        (last,) = cursor.fetchone()
        cursor.execute(
            f"select greatest(floor(extract(epoch from received_at) / {BLOCK_S})::bigint, %s), seq,"  # noqa: S608
            " n_accepted from ingest_batch where evidence_due and state = 'drained'"
            " and received_at < %s order by 1, 2",
            [last + 1, end],
        )
        due = cursor.fetchall()
        if not due:
            return int(last)
        made = []
        for number, rows in groupby(due, key=lambda row: row[0]):
            found = list(rows)
            firsts, lasts = _runs(seq for _, seq, _ in found)
            # Only what counts a ledger again brings nothing that was accepted.
            repaired = any(n_accepted == 0 for _, _, n_accepted in found)
            made.append(
                EvidenceBlock(
                    number=number, firsts=firsts, lasts=lasts, closed_at=now, repaired=repaired
                )
            )
        EvidenceBlock.objects.bulk_create(made)
        cursor.execute(
            "update ingest_batch set evidence_due = false where seq = any(%s)",
            [[seq for _, seq, _ in due]],
        )
    return int(made[-1].number)


def block_of(moment: datetime) -> int:
    """Return the number of the block that holds a moment."""
    return int(moment.timestamp()) // BLOCK_S


def block_end(number: int) -> float:
    """Return when a block ends, in seconds since the epoch."""
    return float((number + 1) * BLOCK_S)


def blocks_after(number: int, *, until: int) -> list[EvidenceBlock]:
    """Return the closed blocks in (number, until], oldest first."""
    return list(
        EvidenceBlock.objects.filter(number__gt=number, number__lte=until).order_by("number")
    )


def repaired_at() -> int:
    """Return the newest block since which the ledger was counted again, 0 for none."""
    row = EvidenceBlock.objects.filter(repaired=True).order_by("-number").first()
    return 0 if row is None else row.number


def drains_in(blocks: Iterable[EvidenceBlock]) -> dict[int, int]:
    """Return the drains that blocks took in, each with its block."""
    return {
        drain: block.number
        for block in blocks
        for first, last in zip(block.firsts, block.lasts, strict=True)
        for drain in range(first, last + 1)
    }


def drains_of(
    blocks: Sequence[EvidenceBlock], *, path_ids: Collection[int], since: datetime
) -> dict[int, int]:
    """Return the drains that blocks took in and that brought something of these paths.

    What `drains_in` returns, less what has nothing to do with them: over weeks that is most.
    """
    if not blocks:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select distinct drain from arrival_ledger where path_id = any(%s)"
            " and not backfill and arrived_at > %s",
            # A label is counted a while after it was received.
            [list(path_ids), since - _LABELS_WAIT],
        )
        drains = [drain for (drain,) in cursor.fetchall()]
    ends = sorted(
        (first, last, block.number)
        for block in blocks
        for first, last in zip(block.firsts, block.lasts, strict=True)
    )
    firsts = [first for first, _, _ in ends]
    found = []
    for drain in drains:
        place = bisect_right(firsts, drain) - 1
        if place >= 0 and ends[place][1] >= drain:
            found.append((ends[place][2], drain))
    return {drain: number for number, drain in sorted(found)}


def blocks_read(
    drains: Mapping[int, int],
    *,
    path_ids: Collection[int],
    since: Mapping[int, datetime] | None,
    fields: Collection[str],
    histograms: Collection[str],
    failures: bool,
    own: Collection[Signal],
) -> Iterator[tuple[int, dict[int, list[Arrivals]]]]:
    """Yield each block with what it brought by path, in the order of blocks.

    Args:
        drains: which drain is in which block, in the order of blocks.
        path_ids: only these paths.
        since: by path when evidence of it begins, inside a block; None where it began before.
        fields: of `Measures`, those to sum.
        histograms: `latency`, `cost`.
        failures: read failure categories too.
        own: signals whose feeds are read too.
    """
    ordered = sorted((number, drain) for drain, number in drains.items())
    start = 0
    while start < len(ordered):
        end = min(start + DRAINS_AT_ONCE, len(ordered))
        # No block is cut in two.
        while end < len(ordered) and ordered[end][0] == ordered[end - 1][0]:
            end += 1
        found = _read(
            [drain for _, drain in ordered[start:end]],
            [number for number, _ in ordered[start:end]],
            path_ids=path_ids,
            since=since,
            fields=fields,
            histograms=histograms,
            failures=failures,
            own=own,
        )
        yield from sorted(found.items())
        start = end


def _read(
    drains: list[int],
    numbers: list[int],
    *,
    path_ids: Collection[int],
    since: Mapping[int, datetime] | None,
    fields: Collection[str],
    histograms: Collection[str],
    failures: bool,
    own: Collection[Signal],
) -> dict[int, dict[int, list[Arrivals]]]:
    paths = sorted(path_ids)
    begin = [None if since is None else since.get(path) for path in paths]
    given: list[Any] = [drains, numbers, paths, begin]
    rows = (
        "unnest(%s::bigint[], %s::bigint[]) as w(drain, block) join {ledger} l on l.drain = w.drain"
        " and not l.backfill join unnest(%s::int[], %s::timestamptz[]) as p(path_id, since)"
        " on p.path_id = l.path_id and (p.since is null or l.arrived_at > p.since"
        f" or w.block > floor(extract(epoch from p.since) / {BLOCK_S}))"
    )
    key = f"w.block, l.path_id, {SCOPE}, l.input_condition"
    width, by = 7, ", ".join(str(place) for place in range(1, 8))
    names = [name for name in SUMMED if name in fields]
    sums = "".join(
        f", sum(l.{name})::{'bigint' if name in COUNTED else 'float8'}" for name in names
    )
    found: dict[tuple[Any, ...], Measures] = {}
    drawn: dict[str, dict[tuple[Any, ...], dict[int | None, int]]] = {
        name: defaultdict(dict) for name in ("latency", "cost")
    }
    failed: dict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    source = rows.format(ledger="arrival_ledger")
    with connection.cursor() as cursor:
        cursor.execute(f"select {key}{sums} from {source} group by {by}", given)  # noqa: S608
        for row in cursor.fetchall():
            found[row[:width]] = Measures(**dict(zip(names, row[width:], strict=True)))
        for name in histograms:
            cursor.execute(
                f"select {key}, h.idx, sum(h.cnt)::bigint from {source}"  # noqa: S608
                f" cross join lateral unnest(l.{name}_idx, l.{name}_cnt) as h(idx, cnt)"
                f" group by {by}, {width + 1}"
                f" union all select {key}, null, sum(l.{name}_zero)::bigint from {source}"
                f" where l.{name}_zero > 0 group by {by}",
                [*given, *given],
            )
            for row in cursor.fetchall():
                drawn[name][row[:width]][row[width]] = row[width + 1]
        if failures:
            cursor.execute(
                f"select {key}, l.category, sum(l.n)::bigint from"  # noqa: S608
                f" {rows.format(ledger='failure_ledger')} group by {by}, {width + 1}",
                given,
            )
            for row in cursor.fetchall():
                failed[row[:width]][row[width]] = row[width + 1]
    if any(signal.feed is not None for signal in own):
        for place, parts in block_parts(own, rows=rows, key=key, given=given).items():
            found[place] = replace(found.get(place, Measures()), parts=parts)
    result: dict[int, dict[int, list[Arrivals]]] = {}
    for place in sorted({*found, *failed, *drawn["latency"], *drawn["cost"]}):
        number, path_id, release_id, arm, segment_id, moved, condition = place
        scope = Scope(release_id, arm, segment_id, bool(moved))
        result.setdefault(number, {}).setdefault(path_id, []).append(
            Arrivals(
                Place(path_id, scope, condition),
                found.get(place, Measures()),
                drawn["latency"].get(place, {}),
                drawn["cost"].get(place, {}),
                failed.get(place, {}),
            )
        )
    return result


def _start(moment: datetime) -> datetime:
    """Return when the block that holds a moment begins."""
    return datetime.fromtimestamp(int(moment.timestamp()) // BLOCK_S * BLOCK_S, tz=UTC)


def _runs(numbers: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the ends of the runs of consecutive numbers, which are in ascending order."""
    firsts: list[int] = []
    lasts: list[int] = []
    for number in numbers:
        if lasts and number == lasts[-1] + 1:
            lasts[-1] = number
        else:
            firsts.append(number)
            lasts.append(number)
    return firsts, lasts
