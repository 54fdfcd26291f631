"""Reads of what tasks were like: input condition, risk, and the declared attributes."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection

from signals.buckets.event_time import event_rows
from signals.buckets.folds import ARRIVALS, HOUR_S, MIX
from signals.buckets.keys import ARM_CANDIDATE, CONDITION, INPUT_CONDITIONS, RISK, RISKS

_CONDITIONS: Final = {code: name for name, code in INPUT_CONDITIONS.items()}
_RISKS: Final = {code: name for name, code in RISKS.items()}


class Who(NamedTuple):
    """Whose tasks: of a path, a segment (0: none), and whether the candidate's arm had them."""

    path_id: int
    segment_id: int
    candidate: bool


class Mixes(NamedTuple):
    """Tasks by whose they were, and by attribute and value; who did not say one is left out."""

    tasks: dict[Who, int]
    values: dict[Who, dict[str, Counter[str]]]


def mix_tasks(*, path_ids: Iterable[int], since: datetime, until: datetime) -> Mixes:
    """Return what tasks of the minutes that begin in [since, until) said, history included."""
    span: dict[str, Any] = {
        "path_ids": list(path_ids),
        "start": since,
        "end": until,
        "step_s": HOUR_S,
    }
    tasks: dict[Who, int] = {}
    values: dict[Who, dict[str, Counter[str]]] = {}

    def count(who: Who, attribute: str, value: str | None, n: int) -> None:
        if value is not None and n > 0:
            values.setdefault(who, {}).setdefault(attribute, Counter())[value] += n

    with connection.cursor() as cursor:
        source, asked = event_rows(ARRIVALS, **span)
        cursor.execute(
            "select l.path_id, l.segment_id, l.arm, l.input_condition, l.risk, sum(l.n)::bigint"  # noqa: S608  # of our own constants
            f" from {source} group by 1, 2, 3, 4, 5",
            asked,
        )
        for path_id, segment_id, arm, condition, risk, n in cursor.fetchall():
            who = Who(path_id, segment_id, arm == ARM_CANDIDATE)
            tasks[who] = tasks.get(who, 0) + n
            count(who, CONDITION, _CONDITIONS.get(condition), n)
            count(who, RISK, _RISKS.get(risk), n)
        source, asked = event_rows(MIX, **span)
        cursor.execute(
            "select l.path_id, l.segment_id, l.arm, l.attribute, l.value, sum(l.n)::bigint"  # noqa: S608  # likewise
            f" from {source} group by 1, 2, 3, 4, 5",
            asked,
        )
        for path_id, segment_id, arm, attribute, value, n in cursor.fetchall():
            count(Who(path_id, segment_id, arm == ARM_CANDIDATE), attribute, value, n)
    return Mixes({who: n for who, n in tasks.items() if n > 0}, values)
