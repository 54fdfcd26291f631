"""Reads of what tasks were like: input condition, risk, and the declared attributes."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection

from signals.buckets.keys import ARM_CANDIDATE, CONDITION, INPUT_CONDITIONS, RISK, RISKS

_CONDITIONS: Final = {code: name for name, code in INPUT_CONDITIONS.items()}
_RISKS: Final = {code: name for name, code in RISKS.items()}

# Live runs by event minute, as `scopes.LIVE_MINUTES` has them, with what kind of case each was.
_KINDS: Final = """
select path_id, segment_id, arm, input_condition, risk, sum(n)::bigint from (
    select path_id, segment_id, arm, input_condition, risk, n from minute_bucket
    where path_id = any(%(paths)s) and minute >= %(since)s and minute <= %(until)s
    union all
    select h.path_id, h.segment_id, h.arm, h.input_condition, h.risk, -h.n
    from arrival_ledger as h
    where h.path_id = any(%(paths)s) and h.backfill and h.n > 0
        and h.arrived_at >= %(since)s and h.arrived_at < %(until)s + interval '1 minute'
        and h.minute >= %(since)s and h.minute <= %(until)s
        and not exists (
            select from ingest_batch as b where b.seq = h.drain and b.folded_at is null
        )
) as l group by 1, 2, 3, 4, 5
"""
_ATTRIBUTES: Final = """
select path_id, segment_id, arm, attribute, value, sum(n)::bigint from mix_ledger
where path_id = any(%(paths)s) and not backfill and minute >= %(since)s and minute <= %(until)s
group by 1, 2, 3, 4, 5
"""


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
    """Return what was reported live of tasks in the minutes that begin in [since, until]."""
    asked: dict[str, Any] = {"paths": list(path_ids), "since": since, "until": until}
    tasks: dict[Who, int] = {}
    values: dict[Who, dict[str, Counter[str]]] = {}

    def count(who: Who, attribute: str, value: str | None, n: int) -> None:
        if value is not None and n > 0:
            values.setdefault(who, {}).setdefault(attribute, Counter())[value] += n

    with connection.cursor() as cursor:
        cursor.execute(_KINDS, asked)
        for path_id, segment_id, arm, condition, risk, n in cursor.fetchall():
            who = Who(path_id, segment_id, arm == ARM_CANDIDATE)
            tasks[who] = tasks.get(who, 0) + n
            count(who, CONDITION, _CONDITIONS.get(condition), n)
            count(who, RISK, _RISKS.get(risk), n)
        cursor.execute(_ATTRIBUTES, asked)
        for path_id, segment_id, arm, attribute, value, n in cursor.fetchall():
            count(Who(path_id, segment_id, arm == ARM_CANDIDATE), attribute, value, n)
    return Mixes({who: n for who, n in tasks.items() if n > 0}, values)
