"""What assembly needs to know: workflows with their paths and rules, and the price sheet."""

from rollout_console.catalog.models import Workflow, WorkflowPath
from signals.otlp.mapping import NO_MAPPING, Known, mapping_read
from signals.otlp.models import PriceSheetVersion, SpanMappingVersion
from signals.otlp.prices import NO_PRICES, PriceSheet, sheet_read


def workflows_known() -> dict[str, Known]:
    """Return every workflow by slug, with its paths and the rules in force."""
    paths: dict[int, list[str]] = {}
    for workflow_id, slug in WorkflowPath.objects.order_by("slug").values_list(
        "workflow_id", "slug"
    ):
        paths.setdefault(workflow_id, []).append(slug)
    newest = SpanMappingVersion.objects.order_by("workflow_id", "-id").distinct("workflow_id")
    documents = dict(newest.values_list("workflow_id", "document"))
    known: dict[str, Known] = {}
    for pk, slug in Workflow.objects.values_list("pk", "slug"):
        of_workflow = tuple(paths.get(pk, ()))
        # Paths are never taken away, so what was put fits still.
        mapping, _ = mapping_read(documents.get(pk, {}), paths=of_workflow)
        known[slug] = Known(pk, of_workflow, mapping or NO_MAPPING)
    return known


def prices_in_force() -> PriceSheet:
    newest = PriceSheetVersion.objects.order_by("-id").values_list("document", flat=True).first()
    if newest is None:
        return NO_PRICES
    sheet, _ = sheet_read(newest)
    return sheet or NO_PRICES
