"""What stands for and against a wider exposure: facts to decide on, and the pack that is shown."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import OuterRef, Subquery

from approvals.expansions import policy
from approvals.expansions.models import OPEN_STATES, ExpansionRequest
from approvals.expansions.policy import Approvers, Bound, Facts, Said, TaskShare
from rollout_console.catalog.models import ActionRoute, ReleaseChange, Segment
from rollout_console.containment.selectors import blast_radius
from rollout_console.rollouts.exposed_mix import PathMix, exposed_mixes
from rollout_console.rollouts.ladder import ExposedSet, NextRung, next_rung
from rollout_console.rollouts.models import PathMode, PlanVersion, Rollout
from rollout_console.rollouts.parts import Parts, parts_read
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.selectors import alert_rows
from signals.buckets.counts import candidate_runs, tasks_by_segment
from signals.buckets.selectors import traffic
from signals.guards.selectors import VerdictRow, verdict_rows

# A stage's part of the tasks is measured over the last hour.
MEASURED: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reach:
    """What an exposed set reaches; `people` is None where a segment's size is not known."""

    exposed: list[dict[str, str]]
    names: dict[str, str]
    share: TaskShare
    tasks_per_min: float | None
    people: int | None


@dataclass(frozen=True, slots=True)
class Ask:
    """Everything about widening a rollout now: facts, where it would go, and by whose word."""

    facts: Facts
    bound: Bound
    verdicts: list[VerdictRow]
    now: Reach
    after: Reach | None
    approvers: Approvers | None


@dataclass(frozen=True, slots=True)
class Known:
    """What facts are made of, and a page reads for other ends too; `waiting` is a request's id."""

    parts: Parts
    verdicts: list[VerdictRow]
    waiting: int | None


def known_of(rollout: Rollout, *, now: datetime) -> Known:
    waiting = ExpansionRequest.objects.filter(rollout=rollout, state__in=OPEN_STATES)
    return Known(
        parts=parts_read([rollout.pk])[rollout.pk],
        verdicts=verdict_rows([rollout.slug], now),
        waiting=waiting.values_list("pk", flat=True).first(),
    )


def rung_of(rollout: Rollout, parts: Parts) -> NextRung | None:
    """Return the rung that comes next, None from the last one in full or before any stage."""
    stages: dict[int, dict[str, Decimal]] = {}
    for row in parts.ladder:
        stages.setdefault(row.stage.position, {})[row.segment.slug] = row.share
    if rollout.stage not in stages:
        return None
    return next_rung(
        stage=rollout.stage,
        exposed=_exposed_set(parts),
        stages=[stages[position] for position in sorted(stages)],
    )


def _exposed_set(parts: Parts) -> dict[str, Decimal]:
    return {row.segment.slug: row.share for row in parts.exposed}


def newest_plan(workflow: str) -> Subquery:
    """Return the number of the newest plan; `workflow` leads there from the outer query's row."""
    plans = PlanVersion.objects.filter(workflow=OuterRef(workflow)).order_by("-number")
    return Subquery(plans.values("number")[:1])


def newest_alert(slug: str) -> Subquery:
    """Return the newest alert's id; `slug` leads to the rollout's from the outer query's row."""
    # Triggers alone: a problem of the signals shows in the verdicts that it makes blind.
    alerts = Alert.objects.filter(rollout=OuterRef(slug), guard__isnull=False).order_by("-pk")
    return Subquery(alerts.values("pk")[:1])


def bound_of(rollout: Rollout) -> Bound:
    """Return what a request of this rollout would stand on now."""
    plan, alert = (
        Rollout.objects.filter(pk=rollout.pk)
        .values_list(newest_plan("workflow"), newest_alert("slug"))
        .get()
    )
    return bound_on(rollout, plan=plan, alert=alert)


def bound_on(rollout: Rollout, *, plan: int | None, alert: int | None) -> Bound:
    """Return what a request would stand on, with the newest plan's number and alert's id."""
    return Bound(
        version=rollout.version,
        plan=rollout.plan.digest,
        plan_number=plan or 0,
        release=f"{rollout.candidate.version} {rollout.candidate.content_digest}".strip(),
        last_alert=alert or 0,
    )


def facts_of(rollout: Rollout, known: Known, *, now: datetime) -> Facts:
    """Return the facts of a rollout; select plan, candidate and workflow with it."""
    parts, verdicts = known.parts, known.verdicts
    stage = parts.stage(rollout.stage)
    runs = 0
    if rollout.bake_from is not None:
        runs = candidate_runs(
            path_ids=[path.pk for path in parts.paths],
            release_id=rollout.candidate_id,
            since=rollout.bake_from,
            until=now,
        )
    modes = sorted(parts.modes, key=lambda row: (row.path.slug, row.pk))
    return Facts(
        state=RolloutState(rollout.state),
        rung=rung_of(rollout, parts),
        bake_from=rollout.bake_from,
        bake_s=stage.bake_s if stage is not None else 0,
        runs=runs,
        min_runs=stage.min_runs if stage is not None else 0,
        criteria=tuple(_said(row, now) for row in verdicts if row.kind == "criterion"),
        triggers=tuple(_said(row, now) for row in verdicts if row.kind == "trigger"),
        modes=tuple(_mode(row) for row in modes),
        waiting=known.waiting,
        read_at=now,
    )


def ask_of(rollout: Rollout, *, now: datetime) -> Ask:
    """Return everything about widening `rollout` now."""
    known = known_of(rollout, now=now)
    facts = facts_of(rollout, known, now=now)
    reach = _Reaches.of(rollout, now=now)
    after = None if facts.rung is None else reach.reach(facts.rung.exposed)
    risky = ActionRoute.objects.filter(workflow=rollout.workflow_id, risk__in=policy.RISKY)
    approvers = None
    if after is not None:
        approvers = policy.approvers_needed(
            after=after.share,
            risky_routes=list(risky.order_by("slug").values_list("slug", flat=True)),
        )
    return Ask(
        facts=facts,
        bound=bound_of(rollout),
        verdicts=known.verdicts,
        now=reach.reach(_exposed_set(known.parts)),
        after=after,
        approvers=approvers,
    )


def pack_of(rollout: Rollout, ask: Ask, *, now: datetime) -> dict[str, Any]:
    """Return the evidence as JSON: what an approver is shown, and what the digest is of."""
    assert ask.facts.rung is not None
    assert ask.after is not None
    assert ask.approvers is not None
    blast = blast_radius(rollout, now=now)
    return {
        "read_at": now.isoformat(),
        "bound": asdict(ask.bound),
        "plan": {"number": rollout.plan.number, "digest": rollout.plan.digest},
        "release": {
            "candidate": rollout.candidate.version,
            "stable": None if rollout.stable is None else rollout.stable.version,
            "registered": rollout.candidate.registered,
            "changes": [
                {
                    "component": change.component,
                    "name": change.name,
                    "before": change.before,
                    "after": change.after,
                    "note": change.note,
                }
                for change in ReleaseChange.objects.filter(release=rollout.candidate_id).order_by(
                    "position"
                )
            ],
        },
        "stage": {
            "now": rollout.stage,
            "after": ask.facts.rung.position,
            "again": ask.facts.rung.again,
            "of": rollout.stages.count(),
            "bake_from": None if rollout.bake_from is None else rollout.bake_from.isoformat(),
            "bake_s": ask.facts.bake_s,
            "runs": ask.facts.runs,
            "min_runs": ask.facts.min_runs,
        },
        "exposed": {"now": ask.now.exposed, "after": ask.after.exposed},
        "segments": ask.now.names | ask.after.names,
        "reach": {"now": _reach_dict(ask.now), "after": _reach_dict(ask.after)},
        "action_routes": blast.action_routes,
        "approvers": asdict(ask.approvers),
        "criteria": [_guard_dict(row) for row in ask.verdicts if row.kind == "criterion"],
        "triggers": [_guard_dict(row) for row in ask.verdicts if row.kind == "trigger"],
        "preconditions": [
            {"title": each.title, "met": each.met, "detail": each.detail}
            for each in policy.preconditions(ask.facts)
        ],
        "mix": [_mix_dict(each) for each in exposed_mixes(rollout, now=now)],
        "alerts": [
            {
                "id": row.id,
                "guard": row.guard,
                "state": row.state,
                "sentence": row.sentence,
                "opened_at": row.opened_at.isoformat(),
            }
            for row in alert_rows(now=now, rollout_slugs=[rollout.slug], unresolved_only=True)
        ],
    }


def rung_shares(rollout: Rollout, *, now: datetime) -> tuple[NextRung | None, dict[str, TaskShare]]:
    """Return the rung that comes next, and by path which part of its tasks that would reach."""
    rung = rung_of(rollout, parts_read([rollout.pk])[rollout.pk])
    if rung is None:
        return None, {}
    return rung, _Reaches.of(rollout, now=now).shares(rung.exposed)


def exposed_words(exposed: ExposedSet) -> list[dict[str, str]]:
    """Return an exposed set as it is kept in JSON: in its order, shares as decimals in words."""
    return [
        {"segment": segment, "share": format(share.normalize(), "f")}
        for segment, share in exposed.items()
    ]


@dataclass(frozen=True, slots=True)
class _Reaches:
    """The traffic and the plan's figures that exposed sets are measured by."""

    by_segment: dict[str, dict[str, int]]
    totals: dict[str, int]
    planned: dict[str, int | None]
    rules: dict[str, object]
    people: dict[str, int | None]
    names: dict[str, str]
    per_min: dict[str, float]

    @classmethod
    def of(cls, rollout: Rollout, *, now: datetime) -> "_Reaches":
        segments = list(Segment.objects.filter(workflow=rollout.workflow_id).order_by("pk"))
        by_id = {segment.pk: segment.slug for segment in segments}
        paths = dict(rollout.rollout_paths.order_by("pk").values_list("path_id", "path__slug"))
        counted = tasks_by_segment(path_ids=list(paths), since=now - MEASURED, until=now)
        flows = traffic(workflow_ids=[rollout.workflow_id], now=now)
        by_segment = {
            slug: {
                by_id[segment]: n
                for segment, n in counted.get(path_id, {}).items()
                if segment in by_id
            }
            for path_id, slug in paths.items()
        }
        return cls(
            by_segment=by_segment,
            totals={slug: sum(counted.get(pk, {}).values()) for pk, slug in paths.items()},
            planned={segment.slug: segment.tasks_per_day for segment in segments},
            rules={segment.slug: segment.rule for segment in segments},
            people={segment.slug: segment.people for segment in segments},
            names={segment.slug: segment.name for segment in segments},
            per_min={slug: flows[pk].tasks_per_min for pk, slug in paths.items()},
        )

    def shares(self, exposed: ExposedSet) -> dict[str, TaskShare]:
        return {
            path: policy.task_share(
                exposed,
                measured=self.by_segment[path],
                total=total,
                planned=self.planned,
                rules=self.rules,
            )
            for path, total in self.totals.items()
        }

    def reach(self, exposed: ExposedSet) -> Reach:
        shares = self.shares(exposed)
        people = [self.people[segment] for segment in exposed]
        return Reach(
            exposed=exposed_words(exposed),
            names={segment: self.names[segment] for segment in exposed},
            share=policy.largest_share(shares.values()),
            tasks_per_min=self._tasks_per_min(exposed, shares),
            people=None
            if not people or any(size is None for size in people)
            else sum(size or 0 for size in people),
        )

    def _tasks_per_min(self, exposed: ExposedSet, shares: Mapping[str, TaskShare]) -> float | None:
        if shares and all(share.basis == "measured" for share in shares.values()):
            return sum((share.share or 0.0) * self.per_min[path] for path, share in shares.items())
        sizes = [self.planned[segment] for segment in exposed]
        if any(size is None for size in sizes):
            return None
        shared = zip(exposed.values(), sizes, strict=True)
        return float(sum(share * (size or 0) for share, size in shared)) / 1440


def _said(row: VerdictRow, now: datetime) -> Said:
    at = row.evidence.get("evaluated_at")
    age_s = None
    if at is not None:
        age_s = max(0.0, (now - datetime.fromisoformat(at)).total_seconds())
    return Said(
        guard=row.guard,
        word=row.verdict,
        sentence=row.sentence,
        needs=row.needs,
        age_s=age_s,
    )


def _mode(row: PathMode) -> str:
    where = row.path.slug if row.segment is None else f"{row.path.slug}, {row.segment.slug}"
    return f"{row.mode.replace('_', ' ')} on {where}"


def _reach_dict(reach: Reach) -> dict[str, Any]:
    rate = reach.tasks_per_min
    return {
        "share": _number(reach.share.share),
        "basis": reach.share.basis,
        "tasks_per_min": _number(rate),
        "tasks_per_day": _number(None if rate is None else rate * 1440),
        "people": reach.people,
    }


def _mix_dict(mix: PathMix) -> dict[str, Any]:
    """Return what the exposed set cannot show, as an approver is told it."""
    return {
        "path": mix.path,
        "name": mix.name,
        "planned": mix.planned,
        "since": mix.since.isoformat(),
        "until": mix.until.isoformat(),
        "exposed": mix.exposed,
        "others": mix.others,
        "gaps": [asdict(gap) for gap in mix.gaps],
    }


def _guard_dict(row: VerdictRow) -> dict[str, Any]:
    return {
        "guard": row.guard,
        "title": row.title,
        "path": row.path,
        "segment": row.segment,
        "signal": row.signal,
        "verdict": row.verdict,
        "value": _number(row.value),
        "low": _number(row.low),
        "high": _number(row.high),
        "unit": row.unit,
        "better": row.better,
        "limit": _number(row.reference),
        "compare": row.compare,
        "n": row.n,
        "window_s": row.window_s,
        "age_s": _number(row.age_s),
        "sentence": row.sentence,
        "ledger_block": row.ledger_block,
    }


def _number(value: float | None) -> float | None:
    """Return a figure that JSON can hold, rounded to where nobody reads on."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.9g}")
