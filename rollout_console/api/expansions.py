"""Expansion requests: ask, decide, start, review, and read."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import require
from approvals.expansions import services
from approvals.expansions.models import STATES
from approvals.expansions.selectors import RequestRow, request_row, request_rows
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.controls import _checked, _permit
from rollout_console.api.reads import LIST_PARAMETERS, _cursor, _list, _page, _word, listed
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput, NotFound

ID_MAX: Final = 2**63 - 1


class ExpansionAskView(ApiView):
    @extend_schema(
        summary="Ask for the next stage, with the evidence as it is now",
        description="`break_glass` asks before the evidence is there; nobody can approve that.",
        request=bodies.ExpansionIn,
        responses={200: bodies.ExpansionWholeOut, 201: bodies.ExpansionWholeOut},
    )
    def post(self, request: Request, slug: str) -> Response:
        _permit(self, slug, Verb.EXPANSION_REQUEST)
        told = _checked(bodies.ExpansionIn, request)
        asked, created = services.expansion_request(
            slug=slug,
            principal=self.principal,
            now=self.now,
            expected_version=told.get("expected_version"),
            for_break_glass=told["break_glass"],
        )
        return _answer(self, asked.pk, status=201 if created else 200)


class ExpansionsView(ApiView):
    @extend_schema(
        operation_id="expansion_requests_list",
        summary="Expansion requests, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("rollout", str),
            OpenApiParameter("state", str, enum=STATES, description="As it is written down."),
        ],
        responses=listed(bodies.ExpansionOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request), _cursor(request)
        slug, state = request.query_params.get("rollout"), request.query_params.get("state")
        if state and state not in STATES:
            raise InvalidInput(
                f"“state” is one of: {', '.join(STATES)}.",
                errors=[{"pointer": "/state", "detail": "Correct it, or leave it out."}],
            )
        found = request_rows(
            workflow_ids=[row.pk for row in self.readable()],
            rollout_slugs=[_word(slug)] if slug else None,
            states=[state] if state else None,
            before_id=before,
            limit=limit + 1,
        )
        told = [expansion_dict(row) for row in found[:limit]]
        return _list(told, found, limit=limit, cursor=lambda row: str(row.id))


class ExpansionView(ApiView):
    @extend_schema(
        summary="An expansion request, with the evidence and the digest to decide on",
        responses=bodies.ExpansionWholeOut,
    )
    def get(self, request: Request, request_id: int) -> Response:
        return _answer(self, request_id)


class ExpansionStepView(ApiView):
    """Base of what changes a request; `verb` says who may."""

    verb: Verb

    def permitted(self, request_id: int) -> None:
        """Refuse before the body is looked at."""
        row = None
        if request_id <= ID_MAX:
            row = Workflow.objects.filter(rollouts__expansion_requests=request_id).first()
        if row is None or not (
            self.principal.may(Verb.READ, row.pk) or self.principal.may(self.verb, row.pk)
        ):
            raise NotFound(f"There is no expansion request {request_id}.")
        require(self.principal, self.verb, row)


class ExpansionDecideView(ExpansionStepView):
    verb = Verb.EXPANSION_APPROVE

    @extend_schema(
        summary="Approve or reject; never the requester, one word a person",
        request=bodies.DecisionIn,
        responses={200: bodies.ExpansionWholeOut},
    )
    def post(self, request: Request, request_id: int) -> Response:
        self.permitted(request_id)
        told = _checked(bodies.DecisionIn, request)
        services.expansion_decide(
            request_id=request_id,
            decision=told["decision"],
            reason=told["reason"],
            digest=told["digest"],
            principal=self.principal,
            now=self.now,
        )
        return _answer(self, request_id)


class ExpansionStartView(ExpansionStepView):
    verb = Verb.EXPANSION_START

    @extend_schema(
        summary="Widen to what was approved; with break-glass, without approval",
        request=bodies.StartIn,
        responses={200: bodies.ExpansionWholeOut},
    )
    def post(self, request: Request, request_id: int) -> Response:
        self.permitted(request_id)
        glass = _checked(bodies.StartIn, request).get("break_glass")
        services.expansion_start(
            request_id=request_id,
            principal=self.principal,
            now=self.now,
            break_glass=None
            if glass is None
            else services.BreakGlass(glass["reason"], glass["confirm"]),
        )
        return _answer(self, request_id)


class ExpansionReviewView(ExpansionStepView):
    verb = Verb.EXPANSION_APPROVE

    @extend_schema(
        summary="Close the review of an expansion that was started by break-glass",
        request=bodies.ReviewIn,
        responses={200: bodies.ExpansionWholeOut},
    )
    def post(self, request: Request, request_id: int) -> Response:
        self.permitted(request_id)
        told = _checked(bodies.ReviewIn, request)
        services.expansion_review(
            request_id=request_id, note=told["note"], principal=self.principal, now=self.now
        )
        return _answer(self, request_id)


def expansion_dict(row: RequestRow) -> dict[str, Any]:
    started = row.starter is not None
    return {
        "id": row.id,
        "workflow": row.workflow,
        "rollout": row.rollout,
        "candidate": row.candidate,
        "state": row.state.value,
        "void_reason": row.void_reason,
        "from_version": row.from_version,
        "from_stage": row.from_stage,
        "stage": row.stage,
        "exposed": [
            {"segment": part["segment"], "share": float(part["share"])} for part in row.exposed
        ],
        "digest": row.digest,
        "approvals": row.approvals,
        "approvals_needed": row.approvals_needed,
        "approvals_why": row.approvals_why,
        "decisions": [
            {
                "person": each.username,
                "decision": each.decision,
                "reason": each.reason,
                "at": each.decided_at,
            }
            for each in row.decisions
        ],
        "requested_by": row.requester,
        "at": row.at,
        "expires_at": row.expires_at,
        "for_break_glass": row.for_break_glass,
        "break_glass": {
            "reason": row.break_glass_reason,
            "reviewed_by": row.reviewer,
            "reviewed_at": row.reviewed_at,
            "note": row.review_note,
        }
        if row.break_glass_reason
        else None,
        "started_by": row.starter,
        "started_at": row.state_at if started else None,
        "exposure_version": row.exposure_version,
    }


def _answer(view: ApiView, request_id: int, *, status: int = 200) -> Response:
    row = request_row(request_id=request_id, now=view.now) if request_id <= ID_MAX else None
    principal = view.principal
    if row is None or not (
        principal.may(Verb.READ, row.workflow_id) or view.request.method == "POST"
    ):
        raise NotFound(f"There is no expansion request {request_id}.")
    return Response({**expansion_dict(row), "evidence": row.evidence}, status=status)
