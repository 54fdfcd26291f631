"""Rollouts as rows: what overview, list and cockpit share."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Q

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.catalog.models import ActionRoute, ReleaseChange, RouteState, WorkflowPath
from rollout_console.containment.policy import MODE_NAMES
from rollout_console.rollouts.models import PathMode, Rollout
from rollout_console.rollouts.parts import Parts, parts_read
from rollout_console.rollouts.states import EXPOSING, RolloutState
from rollout_console.web.actions import Button
from rollout_console.web.drawing import Bar, Dot, Step, ladder_steps, limit_bar, limit_dot
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import ALERTS, SIGNALS, STATES, Shown, share_text
from signals.alerts.models import Alert, AlertState
from signals.alerts.selectors import alert_now
from signals.buckets.selectors import Traffic, traffic
from signals.guards.models import Guard
from signals.guards.selectors import SignalCell, cells_of, guards_now

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
    """A signal as a cell of the strip: its numbers as text, and its limit-aligned bar.

    `limited` says whether a limit is known; `dot` is its place in the chart of all signals.
    """

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
    limited: bool
    dot: Dot | None


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
    # How many action routes the workflow has.
    routes: int

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


@dataclass(frozen=True, slots=True)
class Whole:
    """A rollout with what its rows are made of; its guards are the current ones.

    `alerts` are the newest first: those of triggers that are not resolved, or all there were.
    """

    rollout: Rollout
    parts: Parts
    changes: list[ReleaseChange]
    guards: list[Guard]
    alerts: list[Alert]


def wholes_read(rollouts: Iterable[Rollout], *, every_alert: bool = False) -> list[Whole]:
    """Return rollouts with all that rows are made of, in as many questions as for one."""
    found = list(rollouts)
    slugs = [rollout.slug for rollout in found]
    parts = parts_read(rollout.pk for rollout in found)
    changes: dict[int, list[ReleaseChange]] = defaultdict(list)
    told = ReleaseChange.objects.filter(release__in={rollout.candidate_id for rollout in found})
    for change in told.order_by("position"):
        changes[change.release_id].append(change)
    guards: dict[str, list[Guard]] = defaultdict(list)
    for guard in guards_now(slugs):
        guards[guard.rollout].append(guard)
    alerts = alerts_read(slugs, every_alert=every_alert)
    return [
        Whole(
            rollout=rollout,
            parts=parts[rollout.pk],
            changes=changes[rollout.candidate_id],
            guards=guards[rollout.slug],
            alerts=alerts[rollout.slug],
        )
        for rollout in found
    ]


def rollout_rows(*, principal: Principal, now: datetime) -> list[RolloutRow]:
    """Return readable rollouts, the most urgent first; ended ones are those of the last 14 days."""
    query = Rollout.objects.exclude(ended_at__lt=now - ENDED_SHOWN_FOR).select_related(
        "workflow__owner", "workflow__deputy", "candidate", "stable"
    )
    ids = readable_ids(principal)
    if ids is not None:
        query = query.filter(workflow__in=ids)
    wholes = wholes_read(query.order_by("pk"))
    return sorted(rows_of(wholes, principal=principal, now=now), key=_order)


def _order(row: RolloutRow) -> tuple[int, float, str]:
    rank = {"now": 0, "soon": 1, "look": 2}.get(row.urgency, 3 if row.exposing else 4)
    return rank, -row.candidate_per_min if rank == 3 else 0.0, row.name + row.slug


def rows_of(wholes: Sequence[Whole], *, principal: Principal, now: datetime) -> list[RolloutRow]:
    """Return rollouts as rows, in their order; two questions for them all."""
    if not wholes:
        return []
    workflow_ids = sorted({whole.rollout.workflow_id for whole in wholes})
    routes, restrictions = _routes(workflow_ids)
    flows = traffic(workflow_ids=workflow_ids, now=now)
    rows = []
    for whole in wholes:
        rollout, parts = whole.rollout, whole.parts
        workflow, state = rollout.workflow, RolloutState(rollout.state)
        stages = len({row.stage.position for row in parts.ladder})
        cells = cells_of(whole.guards, now).get(rollout.slug, [])
        flow = _flow([flows[path.pk] for path in parts.paths if path.pk in flows])
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
                changes=_changes(whole.changes),
                owner=workflow.owner.shown_name,
                deputy=workflow.deputy.shown_name,
                stage=rollout.stage,
                stages=stages,
                steps=ladder_steps(stages=stages, stage=rollout.stage, exposed=state in EXPOSING),
                exposed=[
                    ExposedPart(name=row.segment.name, share=float(row.share))
                    for row in parts.exposed
                ],
                paths=[_path(path) for path in parts.paths],
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
                cells=[cell_row(cell, several_paths=len(parts.paths) > 1) for cell in cells],
                alerts=alert_rows(whole.alerts, now=now),
                may_contain=principal.may(Verb.PAUSE, workflow.pk),
                held=_held(
                    [_mode(row) for row in parts.modes],
                    [text for path in parts.paths for text in restrictions[path.pk]],
                    narrowed=state in EXPOSING and _is_narrowed(parts, rollout.stage),
                ),
                mine=principal.person_id in {workflow.owner_id, workflow.deputy_id},
                routes=routes[workflow.pk],
            )
        )
    return rows


def _path(path: WorkflowPath) -> PathRow:
    return PathRow(
        id=path.pk,
        slug=path.slug,
        name=path.name,
        sensitive=path.sensitivity == "sensitive",
        fallbacks=list(path.fallbacks),
    )


def _is_narrowed(parts: Parts, stage: int) -> bool:
    """Whether something else is exposed than the stage in full."""
    full = {row.segment_id: row.share for row in parts.rung(stage)}
    return full != {row.segment_id: row.share for row in parts.exposed}


def _mode(row: PathMode) -> str:
    where = f"{row.path.name}, {row.segment.name}" if row.segment else row.path.name
    return f"{MODE_NAMES[row.mode]} · {where}"


def _routes(workflow_ids: Iterable[int]) -> tuple[dict[int, int], dict[int, list[str]]]:
    """Return how many action routes workflows have, and by path id which are held tighter."""
    seen: dict[int, set[str]] = defaultdict(set)
    held: dict[int, list[str]] = defaultdict(list)
    rows = ActionRoute.objects.filter(workflow__in=list(workflow_ids)).values_list(
        "workflow_id",
        "slug",
        "restrictions__path_id",
        "restrictions__state",
        "restrictions__segment__name",
    )
    for workflow_id, slug, path_id, state, segment in rows.order_by("restrictions__pk"):
        seen[workflow_id].add(slug)
        if path_id is not None:
            word = "disabled" if state == RouteState.DENY else "asks"
            held[path_id].append(f"{slug} {word} for {segment}" if segment else f"{slug} {word}")
    return defaultdict(int, {pk: len(slugs) for pk, slugs in seen.items()}), held


def _held(modes: list[str], restrictions: list[str], *, narrowed: bool) -> list[Shown]:
    return [
        *([Shown("Narrowed", "s-narrowed", "narrowed")] if narrowed else []),
        *(Shown(text, "s-fallback", "fallback") for text in modes),
        *(Shown(text, "stop", "complete") for text in dict.fromkeys(restrictions)),
    ]


def _changes(changes: Iterable[ReleaseChange]) -> str:
    parts = []
    for change in changes:
        arrow = f" {change.before} → {change.after}" if change.before or change.after else ""
        parts.append(f"{change.component}: {change.name}{arrow}")
    return ", ".join(parts)


def alerts_read(slugs: Iterable[str], *, every_alert: bool = False) -> dict[str, list[Alert]]:
    """Return alerts by rollout slug, newest first: triggers' that are not resolved, or all."""
    found: dict[str, list[Alert]] = defaultdict(list)
    alerts = Alert.objects.filter(rollout__in=list(slugs))
    if not every_alert:
        alerts = alerts.filter(guard__isnull=False).exclude(state=AlertState.RESOLVED)
    about = ("workflow", "guard__path", "guard__definition", "problem__path", "owner")
    for alert in alerts.select_related(*about).order_by("-pk"):
        found[alert.rollout].append(alert)
    return found


def alert_rows(alerts: Iterable[Alert], *, now: datetime) -> list[AlertRow]:
    """Return those alerts of triggers that are not resolved, in their order."""
    return [
        alert_row(alert, now=now)
        for alert in alerts
        if alert.guard_id is not None and alert.state != AlertState.RESOLVED
    ]


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
    used = cell.used_share if known else None
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
        bar=limit_bar(used, low=cell.low_used, high=cell.high_used),
        used=None if used is None else round(used * 100),
        limited=cell.limit is not None,
        dot=None if used is None else limit_dot(used, low=cell.low_used, high=cell.high_used),
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
