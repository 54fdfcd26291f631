"""The signals of a workflow: the catalogue's, and those that its team defined."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from signals.catalogue import SIGNALS, Signal
from signals.definition import Definition
from signals.own.models import OwnSignal


@dataclass(frozen=True, slots=True)
class OwnRow:
    """A team's own signal as it is defined now; `version` counts from 1."""

    definition: Definition
    signal: Signal
    version: int
    since: datetime
    by: str


def own_rows(workflow_ids: Iterable[int]) -> dict[int, dict[str, OwnRow]]:
    """Return the current definitions by workflow id and slug, in the order they came."""
    ids = list(workflow_ids)
    found: dict[int, dict[str, OwnRow]] = {pk: {} for pk in ids}
    for row in OwnSignal.objects.filter(workflow__in=ids, retired_at=None).order_by("pk"):
        found[row.workflow_id][row.slug] = OwnRow(
            row.definition, row.signal, row.version, row.created_at, row.created_by
        )
    return found


def signals_in(workflow_id: int, *, judged_by: Collection[int] = ()) -> dict[str, Signal]:
    """Return every signal that a guard or a chart of a workflow may name, by slug.

    Args:
        judged_by: ids of definitions that stand for theirs, though newer ones may be current.
    """
    wanted = Q(workflow=workflow_id, retired_at=None) | Q(pk__in=list(judged_by))
    rows = sorted(OwnSignal.objects.filter(wanted), key=lambda row: (row.pk in judged_by, row.pk))
    return {**SIGNALS, **{row.slug: row.signal for row in rows}}
