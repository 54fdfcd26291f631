"""Rollouts as rows: what overview, list and cockpit share."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import Q

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.catalog.models import ReleaseChange, Workflow
from rollout_console.containment.policy import MODE_NAMES
from rollout_console.rollouts.models import (
    ExposedSegment,
    PathMode,
    Rollout,
    RolloutPath,
    RouteRestriction,
    StageSegment,
)
from rollout_console.rollouts.states import EXPOSING, RolloutState
from rollout_console.web.actions import Button
from rollout_console.web.drawing import Bar, Step, ladder_steps, limit_bar
from rollout_console.web.selectors.shell import readable_ids, readable_workflows
from rollout_console.web.words import ALERTS, SIGNALS, STATES, Shown, share_text
from signals.alerts.models import Alert, AlertState
from signals.alerts.selectors import alert_now
from signals.buckets.selectors import Traffic, traffic
from signals.guards.selectors import SignalCell, signal_cells

# Rollouts that ended longer ago than this are left to the list of all rollouts.
ENDED_SHOWN_FOR: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class ExposedPart:
    name: str
    share: float


@dataclass(frozen=True, slots=True)
class PathRow:
    id: int
    slug: str
    name: str
    sensitive: bool
    fallbacks: list[str]


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert that is not resolved. `due_at` is when the console acts by itself."""

    id: int
    state: str
    shown: Shown
    guard: str
    signal: str
    path: str
    severity: str
    sentence: str
    owner: str
    opened_at: datetime
    acked_at: datetime | None
    held_until: datetime | None
    due_at: datetime | None
    due_text: str
    suggested: str
    recurrences: int
    quiet: bool


@dataclass(frozen=True, slots=True)
class CellRow:
    """A signal as a cell of the strip: its numbers as text, and its limit-aligned bar."""

    signal: str
    path: str
    label: str
    state: str
    shown: Shown
    value: str
    range: str
    limit: str
    n: int
    window_s: int
    at: datetime | None
    bar: Bar
    used: int | None


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """One rollout as the overview shows it. Rates are tasks a minute over the last 5 minutes."""

    slug: str
    workflow_id: int
    workflow: str
    name: str
    state: RolloutState
    shown: Shown
    version: int
    candidate: str
    registered: bool
    stable: str
    changes: str
    owner: str
    deputy: str
    stage: int
    stages: int
    steps: list[Step]
    exposed: list[ExposedPart]
    paths: list[PathRow]
    tasks_per_min: float
    candidate_per_min: float
    exposed_share: float | None
    last_arrival_at: datetime | None
    state_at: datetime
    state_by: str
    live_at: datetime | None
    stage_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    cells: list[CellRow]
    alerts: list[AlertRow]
    may_contain: bool
    mine: bool
    # What containment took away or changed, beside the state: narrowed, fallbacks, restrictions.
    held: list[Shown]

    @property
    def exposing(self) -> bool:
        return self.state in EXPOSING

    @property
    def urgency(self) -> str:
        """What the row asks for: a decision "now" or "soon", a "look", or nothing.

        A signal near its limit, or old, is worth a look; only a tripped trigger or a signal
        over its limit asks somebody to decide.
        """
        if not self.exposing:
            return ""
        states = {cell.state for cell in self.cells}
        unanswered = any(alert.state == AlertState.OPEN for alert in self.alerts)
        if unanswered or "over" in states:
            return "now"
        if self.alerts:
            return "soon"
        return "look" if states & {"near", "stale"} else ""

    @property
    def inside(self) -> int:
        return sum(cell.state == "inside" for cell in self.cells)

    @property
    def exposed_names(self) -> str:
        return " + ".join(part.name for part in self.exposed)

    @property
    def exposed_text(self) -> str:
        """Each exposed segment with its share of that segment."""
        return " + ".join(f"{part.name} {share_text(part.share)}" for part in self.exposed)

    @property
    def menu(self) -> list[Button]:
        """The containment actions that a row offers to who may contain."""
        pause = "resume" if self.state is RolloutState.PAUSED else "pause"
        return [
            Button(pause, f"Hold at {self.exposed_text or 'what is exposed'}"),
            Button("narrow", "Drop segments or cut shares"),
            Button("fallback", "Tasks go on without relying on it"),
            Button("rollback", f"Everyone returns to it, {self.candidate} stops serving"),
            Button("escalate", "Tells the next on the ladder"),
        ]

    @property
    def back_to(self) -> str:
        """What a rollback serves: the stable release, or the path's way without AI."""
        return self.stable or "the way without AI"


def rollout_rows(
    *, principal: Principal, now: datetime, slug: str | None = None, ended: bool = True
) -> list[RolloutRow]:
    """Return readable rollouts, the most urgent first; one of them by `slug`.

    Ended rollouts are those of the last 14 days, or none without `ended`.
    """
    workflows = readable_workflows(principal)
    query = Rollout.objects.filter(workflow__in=list(workflows)).select_related(
        "candidate", "stable"
    )
    if slug is not None:
        query = query.filter(slug=slug)
    else:
        since = now - ENDED_SHOWN_FOR
        query = query.exclude(ended_at__lt=since) if ended else query.filter(ended_at=None)
    rollouts = list(query.order_by("pk"))
    rows = _rows(rollouts, workflows, principal, now)
    return sorted(rows, key=_order)


def _order(row: RolloutRow) -> tuple[int, float, str]:
    rank = {"now": 0, "soon": 1, "look": 2}.get(row.urgency, 3 if row.exposing else 4)
    return rank, -row.candidate_per_min if rank == 3 else 0.0, row.name + row.slug


def _rows(
    rollouts: list[Rollout],
    workflows: dict[int, Workflow],
    principal: Principal,
    now: datetime,
) -> list[RolloutRow]:
    if not rollouts:
        return []
    ids = [rollout.pk for rollout in rollouts]
    slugs = [rollout.slug for rollout in rollouts]
    paths = _paths(ids)
    exposed, shares = _exposed(ids)
    stages = _stages(ids)
    modes = _modes(ids)
    restrictions = _restrictions({path.id for rows in paths.values() for path in rows})
    changes = _changes({rollout.candidate_id for rollout in rollouts})
    alerts = alert_rows(slugs, now=now)
    cells = signal_cells(slugs, now)
    flows = traffic(workflow_ids=sorted({r.workflow_id for r in rollouts}), now=now)
    rows = []
    for rollout in rollouts:
        workflow = workflows[rollout.workflow_id]
        state = RolloutState(rollout.state)
        here = paths[rollout.pk]
        flow = _flow([flows[path.id] for path in here if path.id in flows])
        rows.append(
            RolloutRow(
                slug=rollout.slug,
                workflow_id=workflow.pk,
                workflow=workflow.slug,
                name=workflow.name,
                state=state,
                shown=STATES[state],
                version=rollout.version,
                candidate=rollout.candidate.version,
                registered=rollout.candidate.registered,
                stable=rollout.stable.version if rollout.stable else "",
                changes=changes[rollout.candidate_id],
                owner=workflow.owner.shown_name,
                deputy=workflow.deputy.shown_name,
                stage=rollout.stage,
                stages=len(stages[rollout.pk]),
                steps=ladder_steps(
                    stages=len(stages[rollout.pk]), stage=rollout.stage, exposed=state in EXPOSING
                ),
                exposed=exposed[rollout.pk],
                paths=here,
                tasks_per_min=flow.tasks_per_min,
                candidate_per_min=flow.candidate_per_min,
                exposed_share=flow.exposed_share,
                last_arrival_at=flow.last_arrival_at,
                state_at=rollout.state_at,
                state_by=rollout.state_by,
                live_at=rollout.live_at,
                stage_at=rollout.stage_at,
                created_at=rollout.created_at,
                ended_at=rollout.ended_at,
                cells=[
                    cell_row(cell, several_paths=len(here) > 1)
                    for cell in cells.get(rollout.slug, [])
                ],
                alerts=alerts[rollout.slug],
                may_contain=principal.may(Verb.PAUSE, workflow.pk),
                held=_held(
                    modes[rollout.pk],
                    [text for path in here for text in restrictions[path.id]],
                    narrowed=state in EXPOSING
                    and shares[rollout.pk] != stages[rollout.pk].get(rollout.stage, {}),
                ),
                mine=principal.person_id in {workflow.owner_id, workflow.deputy_id},
            )
        )
    return rows


def _paths(ids: Iterable[int]) -> dict[int, list[PathRow]]:
    found: dict[int, list[PathRow]] = defaultdict(list)
    for row in RolloutPath.objects.filter(rollout__in=ids).select_related("path").order_by("path"):
        found[row.rollout_id].append(
            PathRow(
                id=row.path_id,
                slug=row.path.slug,
                name=row.path.name,
                sensitive=row.path.sensitivity == "sensitive",
                fallbacks=list(row.path.fallbacks),
            )
        )
    return found


Shares = dict[int, Decimal]


def _exposed(ids: Iterable[int]) -> tuple[dict[int, list[ExposedPart]], dict[int, Shares]]:
    """Return by rollout what is exposed, as parts and as segment id to share."""
    parts: dict[int, list[ExposedPart]] = defaultdict(list)
    shares: dict[int, Shares] = defaultdict(dict)
    rows = ExposedSegment.objects.filter(rollout__in=ids).select_related("segment")
    for row in rows.order_by("pk"):
        parts[row.rollout_id].append(ExposedPart(name=row.segment.name, share=float(row.share)))
        shares[row.rollout_id][row.segment_id] = row.share
    return parts, shares


def _stages(ids: Iterable[int]) -> dict[int, dict[int, Shares]]:
    """Return by rollout and stage what the stage exposes in full."""
    found: dict[int, dict[int, Shares]] = defaultdict(dict)
    rows = StageSegment.objects.filter(stage__rollout__in=ids).select_related("stage")
    for row in rows:
        stage = found[row.stage.rollout_id].setdefault(row.stage.position, {})
        stage[row.segment_id] = row.share
    return found


def _modes(ids: Iterable[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    rows = PathMode.objects.filter(rollout__in=ids).select_related("path", "segment")
    for row in rows.order_by("pk"):
        where = f"{row.path.name}, {row.segment.name}" if row.segment else row.path.name
        found[row.rollout_id].append(f"{MODE_NAMES[row.mode]} · {where}")
    return found


def _restrictions(path_ids: Iterable[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    rows = RouteRestriction.objects.filter(path__in=list(path_ids))
    for row in rows.select_related("action_route", "segment").order_by("pk"):
        word = "disabled" if row.state == "deny" else "asks"
        where = f" for {row.segment.name}" if row.segment else ""
        found[row.path_id].append(f"{row.action_route.slug} {word}{where}")
    return found


def _held(modes: list[str], restrictions: list[str], *, narrowed: bool) -> list[Shown]:
    return [
        *([Shown("Narrowed", "s-narrowed", "narrowed")] if narrowed else []),
        *(Shown(text, "s-fallback", "fallback") for text in modes),
        *(Shown(text, "stop", "complete") for text in dict.fromkeys(restrictions)),
    ]


def _changes(release_ids: Iterable[int]) -> dict[int, str]:
    found: dict[int, list[str]] = defaultdict(list)
    rows = ReleaseChange.objects.filter(release__in=release_ids).order_by("release", "position")
    for change in rows:
        arrow = f" {change.before} → {change.after}" if change.before or change.after else ""
        found[change.release_id].append(f"{change.component}: {change.name}{arrow}")
    return defaultdict(str, {key: ", ".join(parts) for key, parts in found.items()})


def alert_rows(slugs: Iterable[str], *, now: datetime) -> dict[str, list[AlertRow]]:
    """Return triggers' alerts that are not resolved, newest first, by rollout slug."""
    found: dict[str, list[AlertRow]] = defaultdict(list)
    alerts = (
        Alert.objects.filter(rollout__in=slugs, guard__isnull=False)
        .exclude(state=AlertState.RESOLVED)
        .select_related("guard__path", "guard__definition", "owner")
    )
    for alert in alerts.order_by("-pk"):
        found[alert.rollout].append(alert_row(alert, now=now))
    return found


def alert_row(alert: Alert, *, now: datetime) -> AlertRow:
    """Return an alert as a row; select guard or problem with path, and owner, with it."""
    state, due_at = alert_now(alert, now=now)
    return AlertRow(
        id=alert.pk,
        state=state,
        shown=ALERTS[state],
        guard=alert.name,
        signal="" if alert.guard is None else alert.guard.signal,
        path="" if alert.path is None else alert.path.name,
        severity=alert.severity,
        sentence=alert.sentence,
        owner=alert.owner.shown_name,
        opened_at=alert.opened_at,
        acked_at=alert.acked_at,
        held_until=alert.held_until,
        due_at=due_at,
        due_text=due_text(alert.due_action or {}),
        suggested=str(alert.response.get("action", "")),
        recurrences=alert.recurrences,
        quiet=alert.quiet,
    )


def due_text(asked: dict[str, Any]) -> str:
    """Return what a clock does by itself, in words that follow "it"."""
    action = str(asked.get("action", ""))
    if action == "narrow":
        to = " + ".join(
            f"{slug} {share_text(float(share))}" for slug, share in asked.get("to", {}).items()
        )
        return f"narrows to {to}" if to else "narrows exposure"
    if action == "fallback":
        return f"switches {asked.get('path', '')} to {MODE_NAMES[str(asked['mode'])].lower()}"
    return {
        "rollback": "rolls back",
        "pause": "pauses expansion",
        "disable_action": f"disables {asked.get('action_route', '')}",
        "require_approval": f"asks for approval of {asked.get('action_route', '')}",
        "escalate": "escalates",
    }.get(action, "acts")


def _flow(flows: list[Traffic]) -> Traffic:
    total = sum(flow.tasks_per_min for flow in flows)
    candidate = sum(flow.candidate_per_min for flow in flows)
    arrivals = [flow.last_arrival_at for flow in flows if flow.last_arrival_at is not None]
    return Traffic(
        tasks_per_min=total,
        candidate_per_min=candidate,
        exposed_share=candidate / total if total else None,
        last_arrival_at=max(arrivals, default=None),
    )


def cell_row(cell: SignalCell, *, several_paths: bool) -> CellRow:
    """Return a signal cell as text and geometry."""
    known = cell.state != "too_few" and cell.value is not None
    return CellRow(
        signal=cell.signal,
        path=cell.path_slug,
        label=f"{cell.name} · {cell.path_slug}" if several_paths else cell.name,
        state=cell.state,
        shown=SIGNALS[cell.state],
        value=cell.value_text,
        range=cell.range_text,
        limit=cell.limit_text,
        n=cell.n,
        window_s=cell.window_s,
        at=cell.data_at,
        bar=limit_bar(cell.used_share if known else None, low=cell.low_used, high=cell.high_used),
        used=round(cell.used_share * 100) if known and cell.used_share is not None else None,
    )


@dataclass(frozen=True, slots=True)
class ListRow:
    """A rollout in the list of all of them."""

    slug: str
    workflow: str
    name: str
    candidate: str
    stable: str
    shown: Shown
    owner: str
    state_at: datetime
    state_by: str


LIST_MAX: Final = 200


def rollout_list(*, principal: Principal, query: str) -> list[ListRow]:
    """Return readable rollouts, newest first; `query` looks in names, slugs and releases."""
    found = Rollout.objects.select_related("workflow__owner", "candidate", "stable")
    ids = readable_ids(principal)
    if ids is not None:
        found = found.filter(workflow__in=ids)
    if query and "\x00" not in query:
        found = found.filter(
            Q(slug__icontains=query)
            | Q(workflow__name__icontains=query)
            | Q(candidate__version__icontains=query)
        )
    return [
        ListRow(
            slug=rollout.slug,
            workflow=rollout.workflow.slug,
            name=rollout.workflow.name,
            candidate=rollout.candidate.version,
            stable=rollout.stable.version if rollout.stable else "",
            shown=STATES[RolloutState(rollout.state)],
            owner=rollout.workflow.owner.shown_name,
            state_at=rollout.state_at,
            state_by=rollout.state_by,
        )
        for rollout in found.order_by("-pk")[:LIST_MAX]
    ]
