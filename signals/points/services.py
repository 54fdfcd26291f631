"""Store metric points, each exactly once however often and by whomever it is sent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import connection, transaction

from signals.ingest.runs import EARLIEST, time_bounds
from signals.points.histograms import Explicit, Exponential
from signals.points.kinds import Distribution, Gauge, MetricPoint, Series, Sum, Value, point_fault
from signals.points.models import SERIES_KEY

# Rows of one statement.
_AT_ONCE: Final = 5_000
_PRUNED_AT_ONCE: Final = 20_000
_encode: Final = msgspec.json.Encoder(uuid_format="canonical").encode

_key: Final = ", ".join(SERIES_KEY)
_COLUMNS: Final = {
    "at": "timestamptz",
    "series_id": "int",
    "stream": "uuid",
    "n": "bigint",
    "total": "float8",
    "squares": "float8",
    "low": "float8",
    "high": "float8",
    "last": "float8",
    "scale": "smallint",
    "zero": "bigint",
    "zero_threshold": "float8",
    "idx": "int[]",
    "cnt": "bigint[]",
    "negative_idx": "int[]",
    "negative_cnt": "bigint[]",
    "bounds": "float8[]",
}
_columns: Final = ", ".join(_COLUMNS)
_typed: Final = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
# In one order everywhere, so that two who store the same points wait for each other and never in a
# ring.
_STORE: Final = f"""
insert into metric_point ({_columns}, arrived_at, backfill)
select {_columns}, %s, %s from jsonb_to_recordset(%s::jsonb) as p({_typed})
order by at, series_id, stream
on conflict do nothing
"""  # noqa: S608  # of our own constants
_SERIES_FIND: Final = f"""
select s.id, s.{_key.replace(", ", ", s.")} from point_series s
join jsonb_to_recordset(%s::jsonb) as p(workflow_id int, path_id int, name text, kind text,
    unit text, source text, segment_id int, release_id int, arm smallint) using ({_key})
"""  # noqa: S608
_SERIES_ADD: Final = f"""
insert into point_series ({_key}, created_at)
select {_key}, %s from jsonb_to_recordset(%s::jsonb) as p(workflow_id int, path_id int, name text,
    kind text, unit text, source text, segment_id int, release_id int, arm smallint)
order by {_key}
on conflict do nothing
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class PointRefusal:
    """What is wrong with the point at `index` of those given."""

    index: int
    detail: str


@dataclass(frozen=True, slots=True)
class PointReceipt:
    """What became of the points given: stored now, known before (or twice here), refused."""

    stored: int
    duplicates: int
    refused: list[PointRefusal] = field(default_factory=list)


def points_store(
    *,
    points: Sequence[MetricPoint],
    now: datetime,
    backfill: bool = False,
    any_age: bool = False,
) -> PointReceipt:
    """Keep the good points durably, and say what is wrong with the others.

    A point whose series, stream and time are known already changes nothing, whatever its value.

    Args:
        backfill: they are recorded history: charts read them, guards do not.
        any_age: take what is older than seven days too, as replay and back-filling pulls do.

    Raises:
        django.db.OperationalError, InterfaceError: they could not be made durable.
    """
    earliest, latest = time_bounds(now, any_age=any_age)
    good: list[MetricPoint] = []
    refused: list[PointRefusal] = []
    for index, point in enumerate(points):
        fault = point_fault(point)
        if fault is None and not earliest <= point.at <= latest:
            fault = _out_of_time(point.at, earliest, latest)
        if fault is None:
            good.append(point)
        else:
            refused.append(PointRefusal(index, fault))
    stored = 0
    with transaction.atomic():
        ids = _series_ids({point.series for point in good}, now=now)
        rows = sorted(
            (_row(point, ids[point.series]) for point in good),
            key=lambda row: (row["at"], row["series_id"], row["stream"]),
        )
        with connection.cursor() as cursor:
            for start in range(0, len(rows), _AT_ONCE):
                some = _encode(rows[start : start + _AT_ONCE]).decode()
                cursor.execute(_STORE, [now, backfill, some])
                stored += cursor.rowcount
    return PointReceipt(stored, len(good) - stored, refused)


def points_prune(*, now: datetime) -> int:
    """Delete some of the points that are kept no longer; return how many, 0 when none is left.

    A point's time counts from when it was measured or, of history, from when it came.
    """
    before = now - timedelta(days=settings.POINT_DAYS_KEPT)
    with connection.cursor() as cursor:
        cursor.execute(
            "delete from metric_point where (at, series_id, stream) in ("
            "select at, series_id, stream from metric_point where at < %s and arrived_at < %s"
            " order by at limit %s)",
            [before, before, _PRUNED_AT_ONCE],
        )
        return int(cursor.rowcount)


def _out_of_time(at: datetime, earliest: datetime, latest: datetime) -> str:
    if at > latest:
        return f"The time {at.isoformat()} lies more than 5 minutes ahead."
    if earliest == EARLIEST:
        return f"The time {at.isoformat()} lies before 1970."
    return f"The time {at.isoformat()} is more than 7 days ago; use `replay` for older points."


def _series_ids(wanted: Iterable[Series], *, now: datetime) -> dict[Series, int]:
    """Return the id of each series, made where it is new."""
    keys = {tuple(getattr(series, name) for name in SERIES_KEY): series for series in wanted}
    if not keys:
        return {}
    with connection.cursor() as cursor:
        found = _series_find(cursor, keys)
        missing = [key for key in keys if key not in found]
        if missing:
            cursor.execute(_SERIES_ADD, [now, _documents(missing)])
            found |= _series_find(cursor, missing)
    return {series: found[key] for key, series in keys.items()}


def _series_find(cursor: Any, keys: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
    cursor.execute(_SERIES_FIND, [_documents(keys)])
    return {tuple(key): series_id for series_id, *key in cursor.fetchall()}


def _documents(keys: Iterable[tuple[Any, ...]]) -> str:
    return _encode([dict(zip(SERIES_KEY, key, strict=True)) for key in keys]).decode()


def _row(point: MetricPoint, series_id: int) -> dict[str, Any]:
    return {
        "at": point.at,
        "series_id": series_id,
        "stream": point.stream_hash(),
        **_value_columns(point.value),
    }


def _value_columns(value: Value) -> dict[str, Any]:
    match value:
        case Gauge():
            return {name: getattr(value, name) for name in Gauge.__dataclass_fields__}
        case Sum():
            return {"n": 1, "total": value.total}
        case Distribution():
            told = {name: getattr(value, name) for name in ("n", "total", "low", "high")}
            return told | _histogram_columns(value)


def _histogram_columns(value: Distribution) -> dict[str, Any]:
    match value.histogram:
        case Exponential() as found:
            positive, negative = sorted(found.positive.items()), sorted(found.negative.items())
            return {
                "scale": found.scale,
                "zero": found.zero,
                "zero_threshold": found.zero_threshold,
                "idx": [index for index, _ in positive],
                "cnt": [count for _, count in positive],
                "negative_idx": [index for index, _ in negative],
                "negative_cnt": [count for _, count in negative],
            }
        case Explicit() as found:
            return {"bounds": list(found.bounds), "cnt": list(found.counts)}
        case None:
            return {}
