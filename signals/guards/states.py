"""Guards' evidence, kept up with the ledger: each evidence block is taken in exactly once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
from django.db import connection

from signals.buckets.arrivals import Arrivals
from signals.buckets.blocks import (
    block_end,
    block_of,
    blocks_after,
    blocks_read,
    drains_in,
    drains_of,
    repaired_at,
)
from signals.buckets.keys import ARM_CANDIDATE, ARM_STABLE
from signals.engine.past import Past
from signals.guards.evidence import (
    in_scope,
    is_cap,
    limit_of,
    signal_of_guard,
    started_at,
)
from signals.guards.methods import Spec, fields_of, histogram_of
from signals.guards.models import Compare, Guard, GuardKind, GuardState
from signals.guards.panel import ENGINE, Member, Memory, Panel, Taken
from signals.guards.panels import PANELS
from signals.guards.proof import Proof, Totals
from signals.guards.reference import references_make

# How long a rollout is expected to be watched; evidence stays right when it lasts longer.
EXPECTED_S: Final = 3 * 86_400.0


def spec_of(guard: Guard) -> Spec | None:
    """Return what a guard asks of evidence; None where its word needs none."""
    if is_cap(guard):
        return None
    slow_ms = guard.path.limits.get("slow_path_ms")
    known = _reference(guard)
    limit = limit_of(guard) if guard.compare == Compare.LIMIT else known.get("threshold")
    spec = Spec(
        signal=signal_of_guard(guard),
        compare=guard.compare,
        limit=limit,
        margin=guard.margin or 0.0,
        holds=guard.kind == GuardKind.CRITERION,
        slow_ms=None if slow_ms is None else float(slow_ms),
        has_past=known.get("past") is not None,
    )
    return spec if spec.method is not None or spec.reads_past else None


def _reference(guard: Guard) -> dict[str, Any]:
    """Return what was read of the time before evidence began, {} where nothing was yet."""
    held: dict[str, Any] = guard.reference or {}
    return held if held.get("from") == started_at(guard).isoformat() else {}


@dataclass(slots=True)
class _Kept:
    """A guard with what is known of its evidence; `block` is the last one taken in."""

    guard: Guard
    spec: Spec
    block: int
    body: bytes | None = None
    blocks: tuple[int, int] = (0, 0)


def states_advance(guards: Sequence[Guard], *, last: int) -> dict[int, Proof]:
    """Take in the evidence blocks up to `last`; return by guard what its evidence says then.

    Runs in the transaction that holds the lock of those who look. Guards whose word needs no
    evidence are left out.
    """
    specs = {guard.pk: spec for guard in guards if (spec := spec_of(guard)) is not None}
    unread = [
        (guard, specs[guard.pk])
        for guard in guards
        if guard.pk in specs and specs[guard.pk].reads_past and not _reference(guard)
    ]
    if unread:
        references_make(unread)
        for guard, _ in unread:
            if (spec := spec_of(guard)) is not None:
                specs[guard.pk] = spec
    specs = {pk: spec for pk, spec in specs.items() if spec.method is not None}
    stored = {row.guard_id: row for row in GuardState.objects.filter(guard__in=specs).defer("body")}
    repaired = repaired_at() if specs else 0
    proofs: dict[int, Proof] = {}
    fresh: dict[int, list[_Kept]] = defaultdict(list)
    anew: dict[datetime, list[_Kept]] = defaultdict(list)
    for guard in guards:
        if (spec := specs.get(guard.pk)) is None:
            continue
        row, start = stored.get(guard.pk), started_at(guard)
        good = (
            row is not None
            and (row.engine, row.method, row.evidence_from) == (ENGINE, spec.method, start)
            and row.block >= repaired
        )
        if row is not None and good and (row.block >= last or last < block_of(start)):
            proofs[guard.pk] = _proof(row)
        elif row is not None and good and row.block >= block_of(start):
            told = (row.first_block, row.told_block)
            fresh[row.block].append(_Kept(guard, spec, row.block, blocks=told))
        else:
            anew[start].append(_Kept(guard, spec, block_of(start) - 1))
    if fresh:
        wanted = [each.guard.pk for group in fresh.values() for each in group]
        bodies = dict(GuardState.objects.filter(guard__in=wanted).values_list("guard_id", "body"))
        for block, group in fresh.items():
            for each in group:
                each.body = bytes(bodies[each.guard.pk])
            drains = drains_in(blocks_after(block, until=last))
            proofs |= _take(group, drains, since=None, last=last)
    for start, group in anew.items():
        paths = {each.guard.path_id for each in group}
        blocks = blocks_after(block_of(start) - 1, until=last)
        drains = drains_of(blocks, path_ids=paths, since=start)
        proofs |= _take(group, drains, since=start, last=last)
    return proofs


def _take(
    group: Sequence[_Kept], drains: Mapping[int, int], *, since: datetime | None, last: int
) -> dict[int, Proof]:
    """Let guards that are equally far take in drains; store their states and return proofs."""
    panels = _panels(group)
    by_path: dict[int, list[tuple[Panel, int, _Kept]]] = defaultdict(list)
    for panel, members in panels:
        for place, kept in enumerate(members):
            by_path[kept.guard.path_id].append((panel, place, kept))
    signals = [each.spec.signal for each in group]
    read = blocks_read(
        drains,
        path_ids=by_path,
        since=None if since is None else dict.fromkeys(by_path, since),
        fields=frozenset().union(*(fields_of(signal) for signal in signals)) | {"n"},
        histograms=sorted({histogram_of(signal) for signal in signals} - {""}),
        failures=any(each.spec.method == "categories" for each in group),
        own=signals,
    )
    touched: set[int] = set()
    for number, paths in read:
        taken: dict[int, dict[int, Taken]] = defaultdict(dict)
        elapsed_s: dict[int, dict[int, float]] = defaultdict(dict)
        for path_id, arrivals in paths.items():
            for panel, place, kept in by_path[path_id]:
                block = _scoped(kept, panel.members[place].memory, arrivals)
                if block is None:
                    continue
                taken[id(panel)][place] = block
                since_start = block_end(number) - started_at(kept.guard).timestamp()
                elapsed_s[id(panel)][place] = max(0.0, since_start)
                touched.add(kept.guard.pk)
                kept.blocks = (kept.blocks[0] or number, number)
        for panel, _ in panels:
            if id(panel) in taken:
                panel.step(
                    taken[id(panel)], elapsed_s=elapsed_s[id(panel)], end_s=block_end(number)
                )
    proofs, rows = {}, []
    for panel, members in panels:
        worse, fine = panel.log_worse(), panel.log_fine()
        for place, kept in enumerate(members):
            row = GuardState(
                guard_id=kept.guard.pk,
                engine=ENGINE,
                method=str(kept.spec.method),
                evidence_from=started_at(kept.guard),
                block=last,
                first_block=kept.blocks[0],
                told_block=kept.blocks[1],
                log_worse=float(worse[place]),
                log_fine=None if fine is None else float(fine[place]),
                told=_told(panel.members[place].memory),
            )
            proofs[kept.guard.pk] = _proof(row)
            if kept.body is None or kept.guard.pk in touched:
                row.body = panel.dump(place)
                rows.append(row)
    _store(rows)
    quiet = [each.guard.pk for each in group if each.body is not None]
    GuardState.objects.filter(guard__in=set(quiet) - touched).update(block=last)
    return proofs


def _panels(group: Sequence[_Kept]) -> list[tuple[Panel, list[_Kept]]]:
    """Put guards whose evidence is made the same way side by side."""
    alike: dict[tuple[Any, ...], list[_Kept]] = defaultdict(list)
    for kept in group:
        spec = kept.spec
        followed = "past" if _reference(kept.guard).get("past") else ""
        alike[spec.method, spec.holds, histogram_of(spec.signal), followed].append(kept)
    found = []
    for (method, *_), members in alike.items():
        panel = PANELS[method]([_member(each) for each in members])
        panel.load({p: each.body for p, each in enumerate(members) if each.body is not None})
        found.append((panel, members))
    return found


def _member(kept: _Kept) -> Member:
    known = _reference(kept.guard)
    past = known.get("past")
    return Member(
        kept.spec,
        EXPECTED_S,
        past=None if past is None else Past(**{**past, "level": np.array(past["level"])}),
        bins=[(index, n) for index, n in known.get("bins", [])],
    )


def _scoped(kept: _Kept, memory: Memory, arrivals: Iterable[Arrivals]) -> Taken | None:
    """Return what of a path's block is about a guard; None where nothing is.

    The stable release counts where the candidate ran too, up to and with this block: other
    segments are other people's tasks.
    """
    guard = kept.guard
    candidate, stable = [], []
    for each in arrivals:
        scope = each.place.scope
        if scope.arm == ARM_CANDIDATE and in_scope(scope, guard, arm=ARM_CANDIDATE):
            candidate.append(each)
            if scope.segment_id not in memory.segments:
                memory.segments.append(scope.segment_id)
    if kept.spec.two_arms:
        stable = [
            each
            for each in arrivals
            if each.place.scope.arm == ARM_STABLE
            and each.place.scope.segment_id in memory.segments
            and in_scope(each.place.scope, guard, arm=ARM_STABLE)
        ]
    return Taken(candidate, stable) if candidate or stable else None


def _proof(row: GuardState) -> Proof:
    told = row.told
    candidate, stable = (
        Totals(told["n"][arm], told["bad"][arm], told["total"][arm]) for arm in (0, 1)
    )
    return Proof(
        method=row.method,
        started_at=row.evidence_from,
        log_worse=row.log_worse,
        log_fine=row.log_fine,
        candidate=candidate,
        stable=stable,
        blocks=(row.first_block, row.told_block),
        told=told["what"],
    )


def _told(memory: Memory) -> dict[str, Any]:
    return {"n": memory.n, "bad": memory.bad, "total": memory.total, "what": memory.told}


# By column of a state, its type.
_COLUMNS: Final = {
    "guard_id": "bigint",
    "engine": "int",
    "method": "text",
    "evidence_from": "timestamptz",
    "block": "bigint",
    "first_block": "bigint",
    "told_block": "bigint",
    "log_worse": "float8",
    "log_fine": "float8",
    "told": "text",
    "body": "bytea",
}
_STORE: Final = (
    f"insert into guards_guardstate ({', '.join(_COLUMNS)})"  # noqa: S608  # of our own words
    f" select {', '.join('told::jsonb' if name == 'told' else name for name in _COLUMNS)}"
    f" from unnest({', '.join(f'%s::{kind}[]' for kind in _COLUMNS.values())})"
    f" as s({', '.join(_COLUMNS)}) on conflict (guard_id) do update set "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "guard_id")
)


def _store(rows: Sequence[GuardState]) -> None:
    """Write states in one statement: by the ORM ten thousand take longer than all else."""
    if not rows:
        return
    columns = [[getattr(row, name) for row in rows] for name in _COLUMNS]
    told = list(_COLUMNS).index("told")
    columns[told] = [_json(each).decode() for each in columns[told]]
    with connection.cursor() as cursor:
        cursor.execute(_STORE, columns)


_json: Final = msgspec.json.Encoder().encode
