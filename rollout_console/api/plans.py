"""A plan's history, changes that wait for a second person, and who a rule would match."""

from dataclasses import asdict
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import require
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.reads import LIST_PARAMETERS, PAGE, PAGE_MAX, listed, whole
from rollout_console.catalog.models import Segment, Workflow
from rollout_console.containment.plan_changes import plan_change_decide_and_publish
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.rollouts.errors import errors_of
from rollout_console.rollouts.models import PlanChange
from rollout_console.rollouts.plan_check import Faults
from rollout_console.rollouts.plan_rules import rule_check
from rollout_console.rollouts.segment_match import rule_match
from rollout_console.rollouts.selectors import (
    ChangeRow,
    change_row,
    change_rows,
    findings_of,
    plan_yaml_of,
    version_get,
    version_rows,
)

ID_MAX: Final = 2**63 - 1


class PlanVersionsView(ApiView):
    @extend_schema(
        summary="A plan's versions, the newest first, each with its diff",
        parameters=LIST_PARAMETERS,
        responses=listed(bodies.PlanVersionOut),
    )
    def get(self, request: Request, workflow: str) -> Response:
        found = _workflow(self, workflow, Verb.READ)
        limit, before = _page(request)
        rows = version_rows(workflow_id=found.pk, before=before, limit=limit + 1)
        following = str(rows[limit - 1].number) if len(rows) > limit else None
        return Response({"results": [asdict(row) for row in rows[:limit]], "next": following})


class PlanVersionView(ApiView):
    @extend_schema(
        summary="One version of a plan, whole: as data and as the file it came as",
        responses=bodies.PlanWholeOut,
    )
    def get(self, request: Request, workflow: str, number: int) -> Response:
        found = _workflow(self, workflow, Verb.READ)
        held = version_get(workflow_id=found.pk, number=min(number, 2**31 - 1))
        if held is None:
            raise NotFound(f"The plan of “{workflow}” has no version {number}.")
        version, row = held
        return Response(
            {
                **asdict(row),
                "workflow": found.slug,
                "document": version.document,
                "text": plan_yaml_of(version),
                "findings": [
                    asdict(finding)
                    for finding in findings_of(version.document, workflow=found, now=self.now)
                ],
            }
        )


class PlanChangesView(ApiView):
    @extend_schema(
        operation_id="plan_changes_list",
        summary="Changes of live plans that loosen something, the newest first",
        parameters=[*LIST_PARAMETERS, OpenApiParameter("workflow", str)],
        responses=listed(bodies.PlanChangeOut),
    )
    def get(self, request: Request) -> Response:
        limit, before = _page(request)
        slug = request.query_params.get("workflow")
        ids = [row.pk for row in self.readable() if not slug or row.slug == slug]
        rows = change_rows(workflow_ids=ids, now=self.now, before=before, limit=limit + 1)
        following = str(rows[limit - 1].id) if len(rows) > limit else None
        return Response({"results": [_change(row) for row in rows[:limit]], "next": following})


class PlanChangeView(ApiView):
    @extend_schema(
        summary="A plan change, with the digest to decide on", responses=bodies.PlanChangeOut
    )
    def get(self, request: Request, change_id: int) -> Response:
        change = (
            PlanChange.objects.select_related("workflow", "base", "applied_as")
            .filter(pk=min(change_id, ID_MAX))
            .first()
        )
        if change is None or not self.principal.may(Verb.READ, change.workflow_id):
            raise NotFound(f"There is no plan change {change_id}.")
        return Response(_change(change_row(change, now=self.now)))


class PlanChangeDecisionView(ApiView):
    @extend_schema(
        summary="Approve or reject a plan change; a person other than its author",
        request=bodies.PlanDecisionIn,
        responses={200: bodies.PlanChangeOut},
    )
    def post(self, request: Request, change_id: int) -> Response:
        found = PlanChange.objects.select_related("workflow").filter(pk=min(change_id, ID_MAX))
        change = found.first()
        verbs = (Verb.READ, Verb.PLAN_CHANGE_APPROVE)
        if change is None or not any(
            self.principal.may(verb, change.workflow_id) for verb in verbs
        ):
            raise NotFound(f"There is no plan change {change_id}.")
        require(self.principal, Verb.PLAN_CHANGE_APPROVE, change.workflow)
        told = _checked(bodies.PlanDecisionIn, request)
        decided = plan_change_decide_and_publish(
            change_id=change.pk,
            decision=told["decision"],
            reason=told["reason"],
            digest=told["digest"],
            principal=self.principal,
            now=self.now,
        )
        return Response(_change(change_row(decided, now=self.now)))


class SegmentMatchView(ApiView):
    @extend_schema(
        summary="Would a rule match this context? Past contexts are not kept",
        description="Give `context` and either `segment`, a slug of the plan in force, or a "
        "`rule`; with both, the rule is tried and the segment names whose history is told. "
        "`sentences` say what is not known.",
        request=bodies.SegmentMatchIn,
        responses={200: bodies.SegmentMatchOut},
    )
    def post(self, request: Request, workflow: str) -> Response:
        found = _workflow(self, workflow, Verb.PLAN_EDIT)
        told = _checked(bodies.SegmentMatchIn, request)
        rule, slug = told.get("rule"), told.get("segment")
        if rule is None:
            rule = _rule_of(found, slug)
        else:
            faults = Faults()
            rule_check(rule, "/rule", faults)
            if faults.found:
                errors = errors_of(faults.found)
                raise InvalidInput(f"The rule does not fit: {errors[0]['detail']}", errors=errors)
        match = rule_match(
            workflow=found, rule=rule, context=told["context"], segment=slug, now=self.now
        )
        return Response(asdict(match))


def _rule_of(workflow: Workflow, slug: str | None) -> Any:
    segment = Segment.objects.filter(workflow=workflow, slug=slug or "").first()
    if segment is None:
        raise InvalidInput(
            f"There is no segment “{slug}” in {workflow.slug}."
            if slug
            else "Say which segment, or give a rule.",
            errors=[{"pointer": "/segment", "detail": "Name a segment, or send a “rule”."}],
        )
    return segment.rule


def _workflow(view: ApiView, slug: str, verb: Verb) -> Workflow:
    """Return a workflow that the caller may do `verb` in; who may nothing there finds none."""
    found = Workflow.objects.filter(slug=slug).first()
    if found is None or not (
        view.principal.may(Verb.READ, found.pk) or view.principal.may(verb, found.pk)
    ):
        raise NotFound(f"There is no workflow “{slug}”.")
    require(view.principal, verb, found)
    return found


def _page(request: Request) -> tuple[int, int | None]:
    limit = whole(request, "limit", default=PAGE, least=1, most=PAGE_MAX)
    return limit, whole(request, "cursor", default=0, least=0, most=2**31 - 1) or None


def _checked(body: Any, request: Request) -> dict[str, Any]:
    serializer = body(data=request.data)
    serializer.is_valid(raise_exception=True)
    told: dict[str, Any] = serializer.validated_data
    return told


def _change(row: ChangeRow) -> dict[str, Any]:
    told = asdict(row)
    del told["requester_id"]
    return told
