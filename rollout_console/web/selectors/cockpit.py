"""One rollout, whole: what its cockpit shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Q

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, Staff
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Segment
from rollout_console.containment import policy
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.advising import recommendation_of
from rollout_console.rollouts.ladder import tasks_in_all
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.recommendation import Recommendation
from rollout_console.rollouts.states import EXPOSING, RolloutState
from rollout_console.web.actions import Button
from rollout_console.web.selectors.happenings import Happening, happening, happenings_known
from rollout_console.web.selectors.health import ShownProblem, problems_shown
from rollout_console.web.selectors.readiness import Step, rollout_step
from rollout_console.web.selectors.rollouts import RolloutRow, Whole, rows_of
from rollout_console.web.selectors.shell import readable_ids
from rollout_console.web.words import (
    VERDICTS,
    Shown,
    duration_text,
    names_text,
    share_text,
)
from signals.alerts.incident_reads import IncidentRow, incident_open
from signals.guards.selectors import VerdictRow, verdicts_of
from signals.outside.selectors import OutsideRow, outside_rows

TIMELINE_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Rung:
    """A stage of the ladder. `share` is its planned part of the segments' tasks a day."""

    position: int
    kind: str
    text: str
    share: float
    share_text: str
    status: str
    bake_used: int | None


@dataclass(frozen=True, slots=True)
class GuardRow:
    slug: str
    title: str
    path: str
    signal: str
    verdict: str
    shown: Shown
    sentence: str
    limit: str
    value: str
    n: int
    window_s: int
    at: datetime | None
    since: datetime | None
    needs: str


@dataclass(frozen=True, slots=True)
class Cockpit:
    row: RolloutRow
    rollout: Rollout
    plan_number: int
    rungs: list[Rung]
    verdicts: list[VerdictRow]
    criteria: list[GuardRow]
    triggers: list[GuardRow]
    problems: list[ShownProblem]
    outside: Sequence[OutsideRow]
    may_end: bool
    incident: IncidentRow | None
    source: dict[str, Any]
    timeline: list[Happening]
    bar: list[Button]
    more: list[Button]
    who: list[str]
    step: Step | None
    advice: Recommendation | None


def rollout_get(slug: str, principal: Principal) -> Rollout:
    """Return a rollout that `principal` may read.

    Raises:
        NotFound: there is none, or its workflow is not theirs to read.
    """
    query = Rollout.objects.select_related(
        "workflow__owner", "workflow__deputy", "candidate", "stable", "plan"
    )
    ids = readable_ids(principal)
    if ids is not None:
        query = query.filter(workflow__in=ids)
    found = query.filter(slug=slug).first() if "\x00" not in slug else None
    if found is None:
        raise NotFound(f"There is no rollout “{slug}” in your workflows. Nothing is affected.")
    return found


def cockpit(whole: Whole, *, staff: Staff, principal: Principal, now: datetime) -> Cockpit:
    """Return everything about a rollout but its charts; `whole` has every alert of it."""
    rollout = whole.rollout
    (row,) = rows_of([whole], principal=principal, now=now)
    verdicts = verdicts_of(whole.guards, now)
    criteria = [_guard(verdict) for verdict in verdicts if verdict.kind == "criterion"]
    who = [] if row.may_contain else staff.who_can(Verb.PAUSE)
    bar, more = _buttons(rollout, row, principal, who)
    return Cockpit(
        row=row,
        rollout=rollout,
        plan_number=rollout.plan.number,
        rungs=_rungs(whole, criteria, now),
        verdicts=verdicts,
        criteria=criteria,
        triggers=[_guard(verdict) for verdict in verdicts if verdict.kind == "trigger"],
        problems=problems_shown(workflow_id=rollout.workflow_id, rollout=rollout.slug),
        outside=outside_rows(
            workflow_ids=[rollout.workflow_id],
            paths=[verdict.path for verdict in verdicts],
        ),
        may_end=principal.may(Verb.ALERT_RESOLVE, rollout.workflow_id),
        incident=incident_open(whole.alerts, now=now),
        source=rollout.candidate.source or {},
        timeline=timeline(whole),
        bar=bar,
        more=more,
        who=who,
        step=rollout_step(rollout, principal=principal, now=now),
        advice=recommendation_of(rollout, verdicts, stages=row.stages),
    )


def _buttons(
    rollout: Rollout, row: RolloutRow, principal: Principal, who: list[str]
) -> tuple[list[Button], list[Button]]:
    """Return the buttons of the bar and those behind "more", as the state admits them."""
    state = RolloutState(rollout.state)
    hues = {shown.hue for shown in row.held}
    declared = {mode for path in row.paths for mode in path.fallbacks}
    routes = row.routes
    smalls = {
        "pause": f"Hold at {row.exposed_text}",
        "resume": f"Holding at {row.exposed_text}",
        "narrow": "Drop segments or cut shares",
        "fallback": f"{len(declared)} mode{'s' * (len(declared) != 1)} declared",
        "rollback": f"Everyone returns to {row.back_to}",
        "disable_action": f"{routes} route{'s' * (routes != 1)} registered",
        "require_approval": "A route asks a person first",
        "clear_fallback": "Back to the release as it is",
        "enable_action": "A route as planned again",
        "escalate": "Tells the next on the ladder",
    }
    suggested = {alert.suggested for alert in row.alerts} if row.urgency == "now" else set()
    if suggested == {""}:
        suggested = {"rollback"}

    def button(action: str) -> Button:
        workflow_id = rollout.workflow_id
        may = principal.may(Verb(action), workflow_id) or (
            policy.RULES[action].widens and principal.may(Verb.SECOND_PERSON, workflow_id)
        )
        small = smalls[action] if may else f"Can contain now: {names_text(who)}"
        return Button(action, small, may, action in suggested)

    exposing = state in EXPOSING
    bar = ["resume" if state is RolloutState.PAUSED else "pause", "narrow", "fallback", "rollback"]
    more = ["clear_fallback"] if "fallback" in hues and exposing else []
    if routes:
        bar.append("disable_action")
        more.append("require_approval")
        if "complete" in hues:
            more.append("enable_action")
    if exposing:
        more.append("escalate")
    else:
        more = [action for action in ("disable_action", *more) if routes]
        bar = []
    return [button(action) for action in bar], [button(action) for action in more]


def _guard(verdict: VerdictRow) -> GuardRow:
    return GuardRow(
        slug=verdict.guard,
        title=verdict.title,
        path=verdict.path,
        signal=verdict.signal,
        verdict=verdict.verdict,
        shown=VERDICTS[verdict.verdict],
        sentence=verdict.sentence,
        limit=verdict.limit_text,
        value=verdict.value_text,
        n=verdict.n,
        window_s=verdict.window_s,
        at=verdict.data_at,
        since=verdict.since,
        needs=verdict.needs,
    )


def _rungs(whole: Whole, criteria: list[GuardRow], now: datetime) -> list[Rung]:
    rollout = whole.rollout
    segments = Segment.objects.filter(workflow=rollout.workflow_id)
    sizes = {segment.slug: segment.tasks_per_day for segment in segments}
    known = {slug: size for slug, size in sizes.items() if size is not None}
    rules = {segment.slug: segment.rule for segment in segments}
    total = tasks_in_all(known, rules) if sizes and len(known) == len(sizes) else 0
    exposing = RolloutState(rollout.state) in EXPOSING
    rungs = []
    for position in sorted({row.stage.position for row in whole.parts.ladder}):
        parts = whole.parts.rung(position)
        stage = parts[0].stage
        if total:
            planned = sum(float(part.share) * known[part.segment.slug] for part in parts)
            share = min(1.0, planned / total)
        else:
            share = sum(float(part.share) for part in parts) / len(parts)
        kind, status, used = "pend", "Locked: needs every criterion and an approval", None
        if exposing and position < rollout.stage:
            kind, status = "done", "Held"
        elif exposing and position == rollout.stage:
            kind = "now"
            since = rollout.bake_from or rollout.stage_at or rollout.state_at
            spent = (now - since).total_seconds()
            used = round(min(1.0, spent / stage.bake_s) * 100)
            holding = sum(guard.verdict == "holding" for guard in criteria)
            status = (
                f"Bakes at least {duration_text(stage.bake_s)} and {stage.min_runs:,} runs"
                f" · {holding} of {len(criteria)} criteria holding"
            )
        elif position == 1 and rollout.state in {RolloutState.DRAFT, RolloutState.READY}:
            status = "Locked: goes live with owner and approver"
        elif rollout.state in {RolloutState.ROLLED_BACK, RolloutState.ABANDONED}:
            status = "Closed: a new rollout starts at its first stage"
        rungs.append(
            Rung(
                position=position,
                kind=kind,
                text=" + ".join(
                    f"{part.segment.name} {share_text(float(part.share))}" for part in parts
                ),
                share=round(max(0.5, share * 99), 1),
                share_text=share_text(share),
                status=status,
                bake_used=used,
            )
        )
    return rungs


def timeline(whole: Whole) -> list[Happening]:
    """Return what happened to a rollout, its alerts and incidents, newest first.

    `whole` has all of its alerts.
    """
    known = happenings_known(whole.alerts)
    incidents = {str(each.incident_id) for each in whole.alerts if each.incident_id is not None}
    entries = AuditEntry.objects.filter(
        Q(subject_type="rollout", subject=whole.rollout.slug)
        | Q(subject_type="alert", subject__in=list(known))
        | Q(subject_type="incident", subject__in=list(incidents))
    ).order_by("-pk")[:TIMELINE_MAX]
    return [happening(entry, known) for entry in entries]
