"""Define, arm and look at guards. A look writes verdicts and nothing else."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from rollout_console.catalog.models import (
    Release,
    Segment,
    Sensitivity,
    Workflow,
    WorkflowPath,
)
from signals.buckets.blocks import blocks_close
from signals.buckets.selectors import last_drain
from signals.engine.budget import guilty, rollout_log_evidence
from signals.guards.decide import (
    DEFAULT_MIN_N,
    DEFAULT_TRIGGER_WINDOW_S,
    decide,
)
from signals.guards.evidence import (
    CRITICAL,
    evidence_of,
    is_cap,
    is_critical,
    limit_of,
    signal_of_guard,
    started_at,
    verdict_of,
)
from signals.guards.models import (
    Compare,
    Guard,
    GuardKind,
    Severity,
    Verdict,
    VerdictChange,
    VerdictWord,
)
from signals.guards.proof import Proof
from signals.guards.states import states_advance
from signals.guards.words import Decision, Evidence, Rule
from signals.ingest.selectors import queue_state
from signals.outside.selectors import outside_facts
from signals.own.models import OwnSignal

# Reports that wait longer than this say nothing of now; a setting may change it.
DEFAULT_QUEUE_LIMIT_S: Final = 60.0
# A verdict that says the same is rewritten this often, so that its age shows the watch is alive.
REWRITE_AFTER_S: Final = 5.0
# A criterion's evidence grows with the stage: it is read again after this share of its length.
_CRITERION_READS: Final = 120
_CRITERION_REREAD_S: Final = 300.0
# A trigger likewise, but never later than the round that comes each second.
_TRIGGER_READS: Final = 600
_TRIGGER_REREAD_S: Final = 0.5
_SAID: Final = ("verdict", "value", "low", "high", "n", "data_at", "sentence", "evidence")
# One look at a time; the number only has to be nobody else's.
_LOOK_LOCK: Final = 7_310_001


@dataclass(frozen=True, slots=True)
class Looked:
    """A guard after a look; `evidence_from` is where the evidence of this look started."""

    guard: Guard
    verdict: Verdict
    evidence_from: datetime
    changed: bool
    is_news: bool


def guards_define(
    *,
    workflow: Workflow,
    rollout_slug: str,
    candidate: Release,
    paths: Iterable[WorkflowPath],
    document: Mapping[str, Any],
    now: datetime,
) -> list[Guard]:
    """Make a rollout's guards those of a plan; return the current ones.

    The same definition keeps its row, a changed one retires it and adds a version, one that is
    gone from the plan retires. A sensitive path has its cap on critical failures in any case.
    The document is a checked plan, or its `rollout` part.
    """
    plan = document.get("rollout", document)
    by_slug = {path.slug: path for path in paths}
    segments = {segment.slug: segment for segment in Segment.objects.filter(workflow=workflow)}
    # A plan that names a signal of its own defined it just before.
    own = dict(
        OwnSignal.objects.filter(workflow=workflow, retired_at=None).values_list("slug", "pk")
    )
    bakes = [int(stage["bake_s"]) for stage in plan.get("stages", [])]
    current = {
        guard.slug: guard
        for guard in Guard.objects.select_for_update(no_key=True)
        .filter(rollout=rollout_slug, retired_at=None)
        .order_by("pk")
    }
    newest: dict[str, int] = {}
    for slug, version in Guard.objects.filter(rollout=rollout_slug).values_list("slug", "version"):
        newest[slug] = max(newest.get(slug, 0), version)
    wanted = [
        *(_definition(GuardKind.CRITERION, item, bakes) for item in plan.get("criteria", [])),
        *(
            _definition(GuardKind.TRIGGER, item, bakes)
            for item in [*plan.get("triggers", []), *_critical_caps(plan, by_slug.values())]
        ),
    ]
    kept: list[Guard] = []
    for slug, path_slug, segment_slug, fields in wanted:
        path = by_slug[path_slug] if path_slug is not None else next(iter(by_slug.values()))
        fields["path_id"] = path.pk
        fields["segment_id"] = segments[segment_slug].pk if segment_slug else None
        fields["candidate_id"] = candidate.pk
        held = current.pop(slug, None)
        fields["definition_id"] = own.get(fields["signal"])
        if fields["definition_id"] is None and held is not None and held.signal == fields["signal"]:
            # A draft that is older than its workflow's plan keeps what that no longer defines.
            fields["definition_id"] = held.definition_id
        if held is not None and all(getattr(held, key) == value for key, value in fields.items()):
            kept.append(held)
            continue
        if held is not None:
            _retire(held, now)
        kept.append(
            Guard.objects.create(
                workflow=workflow,
                rollout=rollout_slug,
                slug=slug,
                version=newest.get(slug, 0) + 1,
                created_at=now,
                # A tightened guard of a live rollout goes on watching from now.
                armed=held is not None and held.armed,
                evidence_from=now if held is not None and held.armed else None,
                **fields,
            )
        )
    for gone in current.values():
        _retire(gone, now)
    return kept


@transaction.atomic
def guards_arm(*, rollout_slug: str, now: datetime) -> int:
    """Start watching with evidence from `now`; guards that watch already stay as they are."""
    guards = Guard.objects.filter(rollout=rollout_slug, retired_at=None, armed=False)
    ids = list(guards.values_list("pk", flat=True))
    # What an earlier arming said is no evidence for this one.
    Verdict.objects.filter(guard__in=ids).delete()
    return Guard.objects.filter(pk__in=ids, armed=False).update(armed=True, evidence_from=now)


def criteria_restart(*, rollout_slug: str, now: datetime) -> int:
    """Let the evidence of a rollout's armed criteria start at `now`: a fresh bake.

    Triggers go on with what they have: harm seen before is no less harm.
    """
    return Guard.objects.filter(
        rollout=rollout_slug, armed=True, retired_at=None, kind=GuardKind.CRITERION
    ).update(evidence_from=now)


@transaction.atomic
def guards_disarm(*, rollout_slug: str, now: datetime) -> int:
    """Stop watching; the last verdicts stay as what was known then."""
    del now  # Every service takes it; disarming keeps no time of its own.
    guards = Guard.objects.filter(rollout=rollout_slug, armed=True)
    # Locked in the order that everybody locks them in; an update alone has none.
    locked = guards.select_for_update(no_key=True).order_by("pk")
    return guards.filter(pk__in=list(locked.values_list("pk", flat=True))).update(armed=False)


def guards_reworded(*, retired: int, definition: OwnSignal) -> int:
    """Let guards show the words of a new version of their signal, which means the same."""
    return Guard.objects.filter(definition=retired).update(definition=definition)


def guard_evidence_restart(*, guard_id: int, now: datetime) -> None:
    """Let a guard's evidence start at `now`: what was judged before does not count again."""
    Guard.objects.filter(pk=guard_id).update(evidence_from=now)


def guards_evaluate(*, now: datetime, workflow_ids: Iterable[int] | None = None) -> list[Verdict]:
    """Look at the armed guards and return the verdicts whose word changed.

    Two looks at once are harmless: the second returns nothing, and the next one sees all.
    """
    looked = guards_look(now=now, workflow_ids=workflow_ids)
    return [each.verdict for each in looked or [] if each.changed]


@transaction.atomic
def guards_look(
    *,
    now: datetime,
    workflow_ids: Iterable[int] | None = None,
    reread: bool = False,
    wait: bool = False,
) -> list[Looked] | None:
    """Judge every armed guard and store the verdicts; None where another look is under way.

    The lock is the transaction's: a caller that acts on the verdicts does so inside its own.
    `reread` also reads criteria again whose evidence can hardly have moved since their last look.
    `wait` lets the other look end first: no alert opens then until the caller's transaction ends.
    """
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("select pg_advisory_xact_lock(%s)", [_LOOK_LOCK])
        else:
            cursor.execute("select pg_try_advisory_xact_lock(%s)", [_LOOK_LOCK])
            if not cursor.fetchone()[0]:
                return None
    guards = Guard.objects.filter(armed=True, retired_at=None).select_related(
        "path", "verdict", "definition"
    )
    if workflow_ids is not None:
        guards = guards.filter(workflow_id__in=list(workflow_ids))
    watched = list(guards.order_by("pk"))
    proofs = _budgeted(watched, states_advance(watched, last=blocks_close(now=now)))
    outside = outside_facts({guard.path_id for guard in watched}, now=now)
    changed: dict[int, datetime] = {}
    for fact in outside:
        changed[fact.path_id] = max(fact.changed_at, changed.get(fact.path_id, fact.changed_at))
    due = [
        guard
        for guard in watched
        if reread
        or _is_due(guard, now, outside_at=changed.get(guard.path_id))
        or _has_moved(guard, proofs.get(guard.pk))
    ]
    if not due:
        return []
    # Read before the evidence: everything up to this drain is in what is judged.
    drain = last_drain()
    queue_age_s = queue_state(now=now).oldest_age_s
    limit_s = queue_limit_s()
    looked = []
    for guard, seen in evidence_of(due, outside=outside, now=now):
        evidence = replace(seen, proof=proofs.get(guard.pk))
        decision = decide(
            _rule(guard), evidence, now=now, queue_age_s=queue_age_s, queue_limit_s=limit_s
        )
        looked.append(_looked(guard, decision, evidence, drain=drain, now=now))
    _store(looked, now=now)
    return looked


def queue_limit_s() -> float:
    """Return how long reports may wait to be taken in before verdicts say nothing of now."""
    return float(getattr(settings, "INGEST_BLIND_AFTER_S", DEFAULT_QUEUE_LIMIT_S))


def _definition(
    kind: GuardKind, item: Mapping[str, Any], bakes: list[int]
) -> tuple[str, str | None, str | None, dict[str, Any]]:
    compare = Compare(item["compare"])
    # A criterion looks at the stage so far, a trigger at the latest minutes.
    window_s = max([3600, *bakes]) if kind is GuardKind.CRITERION else DEFAULT_TRIGGER_WINDOW_S
    limit, margin = item.get("limit"), item.get("margin")
    fields: dict[str, Any] = {
        "kind": kind.value,
        "signal": item["signal"],
        "compare": compare.value,
        "limit": None if limit is None else float(limit),
        "margin": None if margin is None else float(margin),
        "window_s": int(item.get("window_s") or window_s),
        "min_n": int(item.get("min_n") or (1 if compare is Compare.HARD_CAP else DEFAULT_MIN_N)),
        "severity": item.get("severity") or Severity.HIGH.value,
        "response": dict(item.get("response") or {}),
    }
    return item["slug"], item.get("path"), item.get("segment"), fields


def _critical_caps(
    plan: Mapping[str, Any], paths: Iterable[WorkflowPath]
) -> Iterator[dict[str, Any]]:
    """Yield the trigger that a sensitive path has whether or not its plan names one."""
    triggers = plan.get("triggers", [])
    taken = {item["slug"] for item in [*plan.get("criteria", []), *triggers]}
    # One that watches a part of the path, or only tells, is not in the cap's place.
    watched = {
        item.get("path")
        for item in triggers
        if item["signal"] == CRITICAL
        and item.get("segment") is None
        and (item.get("response") or {}).get("kind", "alert") != "alert"
    }
    for path in paths:
        slug = f"critical-{path.slug}"[:80]
        if path.sensitivity != Sensitivity.SENSITIVE or watched & {path.slug, None}:
            continue
        yield {
            "slug": slug if slug not in taken else f"no-{slug}"[:80],
            "path": path.slug,
            "signal": CRITICAL,
            "compare": Compare.HARD_CAP.value,
            "limit": 0,
            "severity": Severity.CRITICAL.value,
            "response": {"kind": "recommend", "action": "rollback"},
        }


def _retire(guard: Guard, now: datetime) -> None:
    guard.retired_at = now
    guard.armed = False
    guard.save(update_fields=["retired_at", "armed"])


def _is_due(guard: Guard, now: datetime, *, outside_at: datetime | None) -> bool:
    """Whether the evidence can have moved enough since the last look to read it again.

    `outside_at` is when another system last said something new of the path.

    Every accepted batch asks for a look. A hard cap gets each one; a window is read again after
    a small part of its length, so that watching long windows stays cheap under heavy traffic.
    """
    held = verdict_of(guard)
    if held is None or is_cap(guard):
        return True
    if outside_at is not None and outside_at >= held.evaluated_at:
        return True
    length = min(float(guard.window_s), (now - started_at(guard)).total_seconds())
    if guard.kind == GuardKind.TRIGGER:
        pause = min(length / _TRIGGER_READS, _TRIGGER_REREAD_S)
    else:
        pause = min(length / _CRITERION_READS, _CRITERION_REREAD_S)
    since_s = (now - held.evaluated_at).total_seconds()
    # Before the last look by our clock: it went back, and waiting for it to catch up is blindness.
    return since_s < 0 or since_s >= pause


def _has_moved(guard: Guard, proof: Proof | None) -> bool:
    """Whether a trigger's evidence holds a block that its stored verdict does not know."""
    held = verdict_of(guard)
    if proof is None or held is None or guard.kind != GuardKind.TRIGGER:
        return False
    return bool(held.evidence.get("last_block", 0) != proof.blocks[1])


def _budgeted(guards: Sequence[Guard], proofs: Mapping[int, Proof]) -> dict[int, Proof]:
    """Let the triggers of each rollout share its false-alarm budget.

    What tripped stays so until its evidence is back to nothing, so that it does not flap.
    """
    found = dict(proofs)
    by_rollout: dict[str, list[Guard]] = defaultdict(list)
    for guard in guards:
        if guard.pk in proofs and guard.kind == GuardKind.TRIGGER:
            by_rollout[guard.rollout].append(guard)
    for triggers in by_rollout.values():
        log_e = {str(guard.pk): proofs[guard.pk].log_worse for guard in triggers}
        named, mean = guilty(log_e), rollout_log_evidence(log_e)
        for guard in triggers:
            proof, held = proofs[guard.pk], verdict_of(guard)
            tripped = (
                held is not None
                and held.verdict == VerdictWord.TRIPPED
                and held.evidence.get("since") == proof.started_at.isoformat()
            )
            found[guard.pk] = replace(
                proof,
                named=str(guard.pk) in named,
                held=tripped and proof.log_worse >= 0,
                shared_by=len(triggers),
                log_mean=mean,
            )
    return found


def _rule(guard: Guard) -> Rule:
    return Rule(
        is_trigger=guard.kind == GuardKind.TRIGGER,
        signal=signal_of_guard(guard),
        # Held to these words by a constraint.
        compare="hard_cap" if is_critical(guard) else guard.compare,  # type: ignore[arg-type]
        limit=limit_of(guard),
        margin=guard.margin,
        window_s=guard.window_s,
        min_n=guard.min_n,
    )


def _looked(
    guard: Guard, decision: Decision, evidence: Evidence, *, drain: int, now: datetime
) -> Looked:
    # Read first: making a verdict for a guard puts it in the place of the stored one.
    held = verdict_of(guard)
    changed = held is None or held.verdict != decision.word
    verdict = Verdict(
        guard=guard,
        verdict=decision.word.value,
        value=decision.value,
        low=decision.low,
        high=decision.high,
        n=decision.n,
        data_at=evidence.data_at,
        sentence=decision.sentence,
        ledger_block=drain,
        evidence={}
        if evidence.proof is None
        else evidence.proof.document(reference=guard.compare, needs=decision.needs),
        evaluated_at=now,
        since=now if held is None or changed else held.since,
    )
    is_news = (
        held is None
        or abs((now - held.evaluated_at).total_seconds()) >= REWRITE_AFTER_S
        or any(getattr(held, name) != getattr(verdict, name) for name in _SAID)
    )
    return Looked(guard, verdict, started_at(guard), changed, is_news)


def _store(looked: list[Looked], *, now: datetime) -> None:
    Verdict.objects.bulk_create(
        [each.verdict for each in looked if each.is_news],
        update_conflicts=True,
        unique_fields=["guard"],
        update_fields=[*_SAID, "ledger_block", "evaluated_at", "since"],
    )
    VerdictChange.objects.bulk_create(
        VerdictChange(
            guard=each.guard,
            verdict=each.verdict.verdict,
            value=each.verdict.value,
            low=each.verdict.low,
            high=each.verdict.high,
            n=each.verdict.n,
            sentence=each.verdict.sentence,
            ledger_block=each.verdict.ledger_block,
            evidence=each.verdict.evidence,
            at=now,
        )
        for each in looked
        if each.changed
    )
