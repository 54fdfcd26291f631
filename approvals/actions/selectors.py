"""Action requests as rows."""

from dataclasses import dataclass
from datetime import datetime

from approvals.actions.models import ActionRequest, Decision
from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.core.errors import InvalidInput, NotFound

LATE = "Nobody decided in time."


@dataclass(frozen=True, slots=True)
class ActionRow:
    """An action request at the time of reading: a pending one that has expired is denied."""

    id: str
    workflow: str
    path: str
    action: str
    decision: str
    reason: str
    expires_at: datetime | None
    requested_at: datetime
    result: str | None
    result_at: datetime | None
    reference: str
    detail: str


def action_row(request: ActionRequest, *, now: datetime) -> ActionRow:
    """Return a request as it is at `now`; select workflow and path with it."""
    late = (
        request.decision == Decision.PENDING
        and request.expires_at is not None
        and request.expires_at <= now
    )
    return ActionRow(
        id=request.request_id,
        workflow=request.workflow.slug,
        path=request.path.slug,
        action=request.action,
        decision=str(Decision.DENY) if late else str(request.decision),
        reason=f"{request.reason} {LATE}" if late else request.reason,
        expires_at=request.expires_at,
        requested_at=request.requested_at,
        result=request.result,
        result_at=request.result_at,
        reference=request.reference,
        detail=request.detail,
    )


def action_find(*, request_id: str, workflow: str, principal: Principal) -> ActionRequest:
    """Return the request of this id in the workflows that `principal` reaches.

    Args:
        workflow: the workflow's slug; "" where the id is of one of them only.

    Raises:
        NotFound: there is none.
        InvalidInput: several workflows use this id, and none was named.
    """
    found = ActionRequest.objects.select_related("workflow", "path").filter(request_id=request_id)
    if workflow:
        found = found.filter(workflow__slug=workflow)
    mine = [
        request
        for request in found.order_by("pk")
        if principal.may(Verb.ACT, request.workflow_id)
        or principal.may(Verb.READ, request.workflow_id)
    ]
    if not mine:
        raise NotFound(f"There is no action request “{request_id[:80]}”.")
    if len(mine) > 1:
        names = ", ".join(request.workflow.slug for request in mine)
        raise InvalidInput(
            f"Several workflows use this id: {names}.",
            errors=[{"pointer": "/workflow", "detail": "Name one in the query."}],
        )
    return mine[0]
