"""Who would match a segment's rule: as far as it can be known, and what cannot be."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from rollout_console.catalog.models import Segment, Workflow
from rollout_console.core.canonical import canonical_json, digest
from signals.buckets.selectors import segment_tasks
from signals.ingest.segments import SegmentRules, rule_names

HISTORY_S: Final = 24 * 3600
NOT_KEPT: Final = (
    "Contexts of past tasks are not kept, so this rule cannot be tried on them; what is known of "
    "them is the segment that each was counted in."
)


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule makes of one context.

    `segment` is the segment of the plan in force that a task of this context is counted in, the
    first that holds. `reads` are the members that the rule looks at, `missing` those that the
    context lacks. `tasks` were counted in the named segment in the last day, None without one.
    """

    matches: bool
    segment: str | None
    reads: list[str]
    missing: list[str]
    tasks: int | None
    sentences: list[str]


def rule_match(
    *,
    workflow: Workflow | None,
    rule: Any,
    context: Mapping[str, Any],
    segment: str | None,
    now: datetime,
) -> Match:
    """Try a sound rule on a context by the evaluator that serves exposure.

    Args:
        workflow: whose segments and history count; None for one that is not there yet.
        segment: the name of the segment that the rule is of.
    """
    stored = list(Segment.objects.filter(workflow=workflow).order_by("pk")) if workflow else []
    asked = canonical_json(dict(context))
    holds = SegmentRules([(1, rule)]).read(asked)[0] == 1
    counted = SegmentRules([(row.pk, row.rule) for row in stored]).read(asked)[0]
    reads = rule_names(rule)
    missing = [name for name in reads or [] if name not in context]
    named = next((row for row in stored if row.slug == segment), None)
    tasks = None
    sentences = ["The rule holds on this context." if holds else _not_holding(missing)]
    if "targetingKey" not in context:
        sentences.append(
            "It has no targetingKey: where a stage exposes a share below 1, it gets stable."
        )
    if reads is None:
        sentences.append("Which members this rule reads cannot be told from it.")
    if named is not None and workflow is not None:
        since = now - timedelta(seconds=HISTORY_S)
        paths = workflow.paths.values_list("pk", flat=True)
        found = segment_tasks(path_ids=paths, since=since, until=now).values()
        tasks = sum(on_path.by_segment.get(named.pk, 0) for on_path in found)
        by = (
            "by its rule in force"
            if digest(named.rule) == digest(rule)
            else ("by its rule in force, which is another one,")
        )
        sentences.append(
            f"{tasks:,} tasks of the last 24 hours were counted in “{named.slug}”, {by} or by the "
            "name that they reported."
        )
    sentences.append(NOT_KEPT)
    return Match(
        matches=holds,
        segment=next((row.slug for row in stored if row.pk == counted), None),
        reads=reads or [],
        missing=missing,
        tasks=tasks,
        sentences=sentences,
    )


def _not_holding(missing: list[str]) -> str:
    if missing:
        return f"The rule does not hold; the context lacks {', '.join(missing)}, which it reads."
    return "The rule does not hold on this context."
