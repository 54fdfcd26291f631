"""What the pages of plans show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.errors import DomainError, NotFound
from rollout_console.rollouts.drafts import Draft, drafts_of
from rollout_console.rollouts.errors import line_of
from rollout_console.rollouts.models import ChangeState, PlanChange, PlanVersion, Rollout
from rollout_console.rollouts.plan_check import Fault
from rollout_console.rollouts.plan_schema import plan_read
from rollout_console.rollouts.plan_yaml import PlanUnreadable, yaml_load
from rollout_console.rollouts.selectors import ChangeRow, VersionRow
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.plan_form import value_at
from rollout_console.web.plan_rule import rule_unnamed
from rollout_console.web.plan_steps import step_of
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import STATES, Shown


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A workflow with its plan; `number` 0 where none was applied."""

    slug: str
    name: str
    owner: str
    number: int
    at: datetime | None
    by: str
    rollouts: list[tuple[str, Shown]]
    draft_at: datetime | None
    waits: bool
    may: bool


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a diff, marked where it loosens something that is in force."""

    kind: str
    text: str
    looser: bool


@dataclass(frozen=True, slots=True)
class VersionView:
    row: VersionRow
    diff: list[DiffLine]


@dataclass(frozen=True, slots=True)
class FaultLink:
    """A fault with the step and the field that it is at."""

    step: str
    title: str
    anchor: str
    detail: str
    line: int | None


def workflow_get(slug: str, principal: Principal) -> Workflow:
    """Return a workflow.

    Raises:
        NotFound: there is none, or it is not the reader's.
    """
    found = Workflow.objects.select_related("owner", "deputy").filter(slug=slug).first()
    if found is None or not principal.may(Verb.READ, found.pk):
        raise NotFound(f"There is no workflow “{slug}”. Nothing is affected.")
    return found


def plan_list(*, principal: Principal, person: Person) -> list[PlanRow]:
    """Return the workflows that a person may read, by name, with their newest plan."""
    workflows = Workflow.objects.select_related("owner").order_by("name", "slug")
    ids = readable_ids(principal)
    if ids is not None:
        workflows = workflows.filter(pk__in=ids)
    plans: dict[int, PlanVersion] = {}
    newest = PlanVersion.objects.order_by("workflow_id", "-number").distinct("workflow_id")
    for plan in newest.defer("document", "text"):
        plans[plan.workflow_id] = plan
    rollouts: dict[int, list[tuple[str, Shown]]] = {}
    for pk, slug, state in (
        Rollout.objects.exclude(state__in=["completed", "rolled_back", "abandoned"])
        .order_by("slug")
        .values_list("workflow_id", "slug", "state")
    ):
        rollouts.setdefault(pk, []).append((slug, STATES[RolloutState(state)]))
    waits = set(
        PlanChange.objects.filter(state=ChangeState.PENDING).values_list("workflow_id", flat=True)
    )
    drafts = drafts_of(person)
    rows = []
    for workflow in workflows:
        newest_plan = plans.get(workflow.pk)
        rows.append(
            PlanRow(
                slug=workflow.slug,
                name=workflow.name,
                owner=workflow.owner.shown_name,
                number=newest_plan.number if newest_plan else 0,
                at=newest_plan.applied_at if newest_plan else None,
                by=newest_plan.applied_by if newest_plan else "",
                rollouts=rollouts.get(workflow.pk, []),
                draft_at=drafts.get(workflow.slug),
                waits=workflow.pk in waits,
                may=principal.may(Verb.PLAN_EDIT, workflow.pk),
            )
        )
    return rows


def diff_lines(diff: Sequence[str], *, looser: Sequence[str] = ()) -> list[DiffLine]:
    """Return a diff's lines with their kind; `looser` are the places that loosen."""
    made = []
    for line in diff:
        kind, _, rest = line.partition(" ")
        where = rest.partition(": ")[0]
        marked = any(
            where == place or where.startswith((f"{place}.", f"{place}[")) for place in looser
        )
        made.append(DiffLine(kind, rest, marked))
    return made


def change_diff(change: ChangeRow) -> list[DiffLine]:
    return diff_lines(
        change.diff,
        looser=[effect["where"] for effect in change.effects if effect["direction"] == "looser"],
    )


def draft_faults(draft: Draft, workflow: Workflow | None) -> list[Fault]:
    """Return what keeps a draft from being applied, as far as it says so by itself."""
    document = draft.document
    plan, faults = plan_read(document)
    slug = value_at(document, "/workflow/slug")
    if workflow is not None and isinstance(slug, str) and slug != workflow.slug:
        faults.append(
            Fault("/workflow/slug", f"This is the plan of “{workflow.slug}”: keep its slug.")
        )
    elif workflow is None and isinstance(slug, str) and Workflow.objects.filter(slug=slug).exists():
        faults.append(
            Fault("/workflow/slug", f"There is a workflow “{slug[:80]}” already: edit its plan.")
        )
    segments = value_at(document, "/workflow/segments")
    for index, segment in enumerate(segments if isinstance(segments, list) else []):
        if isinstance(segment, dict) and rule_unnamed(segment.get("rule")):
            faults.append(
                Fault(
                    f"/workflow/segments/{index}/rule",
                    "Name the member of the context that the rule looks at.",
                )
            )
    if plan is not None:
        known = set(
            Person.objects.filter(username__in=plan.people.values(), is_active=True).values_list(
                "username", flat=True
            )
        )
        faults += [
            Fault(pointer, f"There is no person “{name[:80]}”; create them, or name another.")
            for pointer, name in plan.people.items()
            if name not in known
        ]
    return faults


def refusal_faults(refusal: DomainError) -> list[Fault]:
    """Return a refusal of the service at the fields that it names."""
    errors: list[dict[str, Any]] = refusal.facts.get("errors") or []
    return [Fault(error["pointer"], error["detail"]) for error in errors] or [
        Fault("", refusal.detail)
    ]


def fault_links(faults: Sequence[Fault], text: str) -> list[FaultLink]:
    """Return faults with where they are to be corrected."""
    lines = lines_at(text)
    made = []
    for fault in faults:
        step = step_of(fault.pointer)
        anchor = "f" + fault.pointer.replace("/", "-")
        made.append(
            FaultLink(step.slug, step.title, anchor, fault.detail, line_of(fault.pointer, lines))
        )
    return made


def lines_at(text: str) -> dict[str, int]:
    """Return the line of each part of a file, nothing for one that cannot be read."""
    try:
        return yaml_load(text).lines
    except PlanUnreadable:
        return {}


def people_names() -> list[str]:
    """Return the names of people who can be named in a plan."""
    return list(
        Person.objects.filter(is_active=True)
        .order_by("username")
        .values_list("username", flat=True)[:500]
    )
