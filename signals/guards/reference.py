"""What a path did before evidence began: read once for each guard, and kept with it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from signals.buckets.arrivals import Arrivals, Place
from signals.buckets.keys import ARM_STABLE
from signals.buckets.measures import Measures, bucket_bounds
from signals.buckets.scopes import SCOPE, Scope
from signals.catalogue import SIGNALS
from signals.engine.past import HOURS, past_of
from signals.guards.evidence import in_scope, started_at
from signals.guards.methods import Spec, bad_counts, fields_of, histogram_of, tail_of
from signals.guards.models import Guard

DAYS: Final = 14
_HOUR_S: Final = 3600
_FIELDS: Final = sorted(
    frozenset().union(*(fields_of(signal) for signal in SIGNALS.values())) | {"n"}
)


def references_make(wanted: Sequence[tuple[Guard, Spec]]) -> None:
    """Read and store what these guards' paths did before, in a few queries for them all.

    Of the path's stable release in the whole days before evidence began, as its folds by the hour
    told then: what is counted later of those days changes no evidence.
    """
    by_day: dict[datetime, list[tuple[Guard, Spec]]] = defaultdict(list)
    for guard, spec in wanted:
        by_day[_midnight(started_at(guard))].append((guard, spec))
    for until, some in by_day.items():
        rows = _read(some, until=until)
        for guard, spec in some:
            guard.reference = {
                "from": started_at(guard).isoformat(),
                **_made(guard, spec, rows.get(guard.path_id, ()), until=until),
            }
    Guard.objects.bulk_update([guard for guard, _ in wanted], ["reference"])


def _made(
    guard: Guard, spec: Spec, rows: Iterable[tuple[datetime, Arrivals]], *, until: datetime
) -> dict[str, Any]:
    """Return the level by hour, the histogram, and the value that few tasks passed."""
    mine = [(at, each) for at, each in rows if in_scope(each.place.scope, guard, arm=ARM_STABLE)]
    bins: dict[int | None, int] = defaultdict(int)
    name = histogram_of(spec.signal)
    for _, each in mine:
        for index, count in (each.cost if name == "cost" else each.latency).items():
            bins[index] += count
    threshold = None
    if spec.compare == "history" and spec.signal.source in {"quantile", "mean"}:
        threshold = _quantile(bins, spec.signal.q or tail_of(spec.signal))
        if threshold is None:
            return {"past": None, "bins": [], "threshold": None}
        spec = spec.limited(threshold)
    hours = np.zeros((DAYS * HOURS, 2), dtype=np.int64)
    begin = until - timedelta(days=DAYS)
    for at, each in mine:
        hour = int((at - begin).total_seconds()) // _HOUR_S
        if spec.signal.source != "mean" or spec.compare == "history":
            hours[hour] += bad_counts(spec, each, lenient=True)
    past = past_of(hours)
    return {
        "past": None
        if past is None
        else {
            "level": [float(each) for each in past.level],
            "day_spread": past.day_spread,
            "error": past.error,
            "bad_a_minute": past.bad_a_minute,
        },
        "bins": sorted([-(10**6) if i is None else i, n] for i, n in bins.items()) if name else [],
        "threshold": threshold,
    }


def _quantile(bins: Mapping[int | None, int], q: float) -> float | None:
    n = sum(bins.values())
    left = q * n - bins.get(None, 0)
    for index in sorted(each for each in bins if each is not None):
        left -= bins[index]
        if left <= 0:
            return bucket_bounds(index)[1]
    return None


def _read(
    some: Sequence[tuple[Guard, Spec]], *, until: datetime
) -> dict[int, list[tuple[datetime, Arrivals]]]:
    """Return by path what each hour of the days before held of the stable release."""
    stable = {
        guard.path_id: guard.path.stable_id for guard, _ in some if guard.path.stable_id is not None
    }
    if not stable:
        return {}
    given: list[Any] = [
        list(stable),
        list(stable.values()),
        until - timedelta(days=DAYS),
        until,
    ]
    source = (
        "unnest(%s::int[], %s::int[]) as w(path_id, release_id) join hour_bucket l"
        " on l.path_id = w.path_id and l.release_id = w.release_id and l.minute >= %s"
        " and l.minute < %s"
    )
    key = f"l.path_id, l.minute, {SCOPE}"
    by = ", ".join(str(place) for place in range(1, 7))
    sums = "".join(f", sum(l.{name})" for name in _FIELDS)
    found: dict[tuple[Any, ...], Measures] = {}
    drawn: dict[str, dict[tuple[Any, ...], dict[int | None, int]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(f"select {key}{sums} from {source} group by {by}", given)  # noqa: S608
        for row in cursor.fetchall():
            found[row[:6]] = Measures(**dict(zip(_FIELDS, row[6:], strict=True)))
        for name in sorted({histogram_of(spec.signal) for _, spec in some} - {""}):
            told = drawn.setdefault(name, defaultdict(dict))
            cursor.execute(
                f"select {key}, h.idx, sum(h.cnt)::bigint from {source}"  # noqa: S608
                f" cross join lateral unnest(l.{name}_idx, l.{name}_cnt) as h(idx, cnt)"
                f" group by {by}, 7 union all"
                f" select {key}, null, sum(l.{name}_zero)::bigint from {source}"
                f" where l.{name}_zero > 0 group by {by}",
                [*given, *given],
            )
            for row in cursor.fetchall():
                told[row[:6]][row[6]] = row[7]
    result: dict[int, list[tuple[datetime, Arrivals]]] = defaultdict(list)
    for place, measures in found.items():
        path_id, at, release_id, _, segment_id, moved = place
        # Before a rollout its arm has no name yet.
        scope = Scope(release_id, ARM_STABLE, segment_id, bool(moved))
        arrivals = Arrivals(
            Place(path_id, scope, 0),
            measures,
            drawn.get("latency", {}).get(place, {}),
            drawn.get("cost", {}).get(place, {}),
            {},
        )
        result[path_id].append((at, arrivals))
    return result


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
