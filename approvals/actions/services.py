"""Decide on an action request from what its context is exposed to; note what became of it.

The approval queue, limits and webhooks come with the actions issue: until somebody can decide,
what needs a person waits and then counts as denied.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from approvals.actions import locks
from approvals.actions.models import ActionRequest, Decision
from approvals.actions.moves import MOVES, Result, next_allowed
from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.core.canonical import digest
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.exposure.evaluate import Failure
from rollout_console.exposure.store import store
from signals.buckets.keys import ARM_UNKNOWN, ARMS, MODES
from signals.ingest.action_results import ActionKey, action_result_count

_BY_STATE: Final = {"allow": Decision.ALLOW, "ask": Decision.PENDING, "deny": Decision.DENY}


class ActionIdReused(DomainError):
    code = "action-id-reused"
    title = "This id stands for another action request"
    status = 422


class ActionNotAllowed(DomainError):
    """Only what was allowed can have been done; `decision` says what was decided."""

    code = "action-not-allowed"
    title = "This action was not allowed"


class ResultNotPossible(DomainError):
    """`allowed` names the results that may follow the one that is there."""

    code = "action-result-not-possible"
    title = "This result cannot follow"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a workflow wants to do. `context` is its evaluation context."""

    id: str
    action: str
    target: str
    summary: str
    run_id: str = ""
    parameters: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str:
        said = (self.action, self.target, self.summary, self.run_id)
        return digest([*said, dict(self.parameters or {}), dict(self.context or {})])


@dataclass(frozen=True, slots=True)
class _Decided:
    decision: Decision
    reason: str
    exposure_version: int
    release: str | None
    segment: str | None
    arm: str
    mode: str


def action_request(
    *, workflow: str, path: str, asked: Asked, principal: Principal, now: datetime
) -> ActionRequest:
    """Decide on what is asked; the same id gets the same answer.

    Raises:
        NotFound: there is no such workflow and path for this principal.
        NotAllowed, ActionIdReused.
        InvalidInput: the context lacks the targeting key that a share needs.
    """
    place = (
        WorkflowPath.objects.select_related("workflow")
        .filter(workflow__slug=workflow, slug=path)
        .first()
    )
    _permit(principal, None if place is None else place.workflow, path=path, workflow=workflow)
    assert place is not None
    content = digest([path, asked.digest])
    held = ActionRequest.objects.filter(workflow=place.workflow_id, request_id=asked.id).first()
    if held is None:
        decided = _decide(place, asked)
        with transaction.atomic():
            held, created = ActionRequest.objects.get_or_create(
                workflow_id=place.workflow_id,
                request_id=asked.id,
                defaults=_fields(place, asked, decided, content, principal=principal, now=now),
            )
            if created:
                _record("action.requested", held, place.workflow, principal=principal, now=now)
    if held.digest != content:
        raise ActionIdReused("Use a new id: this one stands for another action request.")
    return held


@transaction.atomic
def action_result(
    *,
    request: ActionRequest,
    result: Result,
    reference: str,
    detail: str,
    principal: Principal,
    now: datetime,
) -> ActionRequest:
    """Note how an allowed action ended, and count it once; repeating it changes nothing.

    Raises:
        NotAllowed, ActionNotAllowed, ResultNotPossible.
    """
    require(principal, Verb.ACT, request.workflow)
    held = locks.action_requests().get(pk=request.pk)
    if held.decision != Decision.ALLOW:
        raise ActionNotAllowed(
            "Nothing may have been done: this request was not allowed.", decision=held.decision
        )
    before = None if held.result is None else Result(held.result)
    if before == result:
        return held
    if (before, result) not in MOVES:
        allowed = next_allowed(before)
        raise ResultNotPossible(
            f"An action that is {before or 'not reported yet'} can only become:"
            f" {', '.join(allowed) or 'nothing else'}.",
            allowed=allowed,
        )
    held.result, held.result_at = result.value, now
    # What says how it was undone does not erase what says that it was done.
    held.reference, held.detail = reference or held.reference, detail or held.detail
    held.save(update_fields=["result", "result_at", "reference", "detail"])
    action_result_count(
        key=ActionKey(
            workflow_id=held.workflow_id,
            path_id=held.path_id,
            segment_id=held.segment_id,
            release_id=held.release_id,
            arm=held.arm,
            mode=held.mode,
            requested_at=held.requested_at,
        ),
        ended=result is not Result.UNDONE,
        done=result is Result.DONE,
        undone=result is Result.UNDONE,
        now=now,
    )
    _record("action.reported", held, held.workflow, principal=principal, now=now)
    return held


def action_permit(principal: Principal, workflow: Workflow) -> None:
    """Raise NotFound or NotAllowed unless `principal` may ask for actions of `workflow`."""
    _permit(principal, workflow, path="", workflow=workflow.slug)


def _permit(principal: Principal, found: Workflow | None, *, path: str, workflow: str) -> None:
    # Who may not read a workflow is not told that it exists.
    if found is None or not (
        principal.may(Verb.READ, found.pk) or principal.may(Verb.ACT, found.pk)
    ):
        where = f"workflow “{workflow}” with a path “{path}”" if path else f"“{workflow}”"
        raise NotFound(f"There is no {where} for you.")
    require(principal, Verb.ACT, found)


def _decide(place: WorkflowPath, asked: Asked) -> _Decided:
    """Return what the exposure version in force says of this action for this context."""
    store.refresh()
    snapshot = store.snapshot
    key = place.flag_key
    if snapshot is None or not snapshot.holds(key, lambda _: True):
        return _Decided(
            Decision.DENY,
            f"Nothing is served on “{place.slug}” yet.",
            0 if snapshot is None else snapshot.number,
            None,
            None,
            "",
            "normal",
        )
    attributes = dict(asked.context or {})
    targeting_key = attributes.pop("targetingKey", None)
    if targeting_key is not None and not isinstance(targeting_key, str):
        raise InvalidInput(
            "“targetingKey” must be text.",
            errors=[{"pointer": "/context/targetingKey", "detail": "Write it in quotes."}],
        )
    answer = snapshot.decide(key, targeting_key=targeting_key or None, attributes=attributes)
    if isinstance(answer, Failure):
        if answer.code == "TARGETING_KEY_MISSING":
            raise InvalidInput(
                answer.detail,
                errors=[{"pointer": "/context/targetingKey", "detail": "Send it."}],
            )
        return _Decided(Decision.DENY, answer.detail, snapshot.number, None, None, "", "normal")
    value = json.loads(answer.body)["value"]
    state = value["actions"].get(asked.action)
    where = f"on “{place.slug}”" + (f" for “{value['segment']}”" if value["segment"] else "")
    words = {
        "allow": f"“{asked.action}” is allowed {where}.",
        "ask": f"“{asked.action}” needs a person's approval {where}.",
        "deny": f"“{asked.action}” is denied {where} in mode {value['mode']}.",
        None: f"There is no action route “{asked.action}” in {place.workflow.name}: register it"
        " in the plan.",
    }
    return _Decided(
        _BY_STATE.get(state, Decision.DENY),
        words[state],
        snapshot.number,
        value["release"],
        value["segment"],
        value["arm"],
        value["mode"],
    )


def _fields(
    place: WorkflowPath,
    asked: Asked,
    decided: _Decided,
    content: str,
    *,
    principal: Principal,
    now: datetime,
) -> dict[str, Any]:
    workflow = place.workflow
    segment_id = release_id = None
    if decided.segment is not None:
        segment_id = workflow.segments.filter(slug=decided.segment).values_list("pk", flat=True)
    if decided.release is not None:
        release_id = workflow.releases.filter(version=decided.release).values_list("pk", flat=True)
    waits = decided.decision is Decision.PENDING
    return {
        "path": place,
        "digest": content,
        "action": asked.action,
        "run_id": asked.run_id,
        "target": asked.target,
        "summary": asked.summary,
        "parameters": dict(asked.parameters or {}),
        "context": dict(asked.context or {}),
        "requested_at": now,
        "requested_by": principal.name,
        "exposure_version": decided.exposure_version,
        "segment_id": 0 if segment_id is None else segment_id.first() or 0,
        "release_id": 0 if release_id is None else release_id.first() or 0,
        "arm": ARMS.get(decided.arm, ARM_UNKNOWN),
        "mode": MODES[decided.mode],
        "decision": decided.decision,
        "reason": decided.reason,
        "expires_at": now + timedelta(seconds=settings.ACTION_VALID_S) if waits else None,
    }


def _record(
    action: str,
    request: ActionRequest,
    workflow: Workflow,
    *,
    principal: Principal,
    now: datetime,
) -> None:
    said = (
        {"result": request.result, "reference": request.reference}
        if action == "action.reported"
        else {"decision": str(request.decision), "exposure_version": request.exposure_version}
    )
    audit.append(
        action,
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="action_request",
        subject=request.request_id,
        data={"action": request.action, "target": request.target, **said},
    )
