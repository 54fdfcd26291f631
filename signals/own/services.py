"""Keep what teams define, version by version. Plans decide who may and when."""

from collections.abc import Sequence
from datetime import datetime

from rollout_console.catalog.models import Workflow
from signals.definition import Definition, definition_document
from signals.own.models import OwnSignal


def signals_define(
    *, workflow: Workflow, definitions: Sequence[Definition], by: str, now: datetime
) -> dict[int, OwnSignal]:
    """Make a workflow's own signals these.

    The same definition keeps its row, a changed one retires it and adds a version, one that is
    gone retires.

    Returns:
        By the id of a version that retired the new one that means the same, where only the words
        it is shown with changed.
    """
    current = {
        row.slug: row
        for row in OwnSignal.objects.select_for_update(of=("self",), no_key=True)
        .filter(workflow=workflow, retired_at=None)
        .order_by("pk")
    }
    newest: dict[str, int] = {}
    for slug, version in OwnSignal.objects.filter(workflow=workflow).values_list("slug", "version"):
        newest[slug] = max(newest.get(slug, 0), version)
    reworded = {}
    for definition in definitions:
        held = current.pop(definition.slug, None)
        before = None if held is None else held.definition
        if before == definition:
            continue
        if held is not None:
            _retire(held, now)
        made = OwnSignal.objects.create(
            workflow=workflow,
            slug=definition.slug,
            version=newest.get(definition.slug, 0) + 1,
            document=definition_document(definition),
            created_at=now,
            created_by=by,
        )
        if held is not None and before is not None and before.meaning == definition.meaning:
            reworded[held.pk] = made
    for gone in current.values():
        _retire(gone, now)
    return reworded


def _retire(row: OwnSignal, now: datetime) -> None:
    row.retired_at = now
    row.save(update_fields=["retired_at"])
