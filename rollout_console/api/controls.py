"""What changes something: plans, steps of a rollout, containment, alerts."""

from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import parsers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, require, who_can
from rollout_console.api import alert_bodies
from rollout_console.api import serializers as bodies
from rollout_console.api.access import ApiView, body_read
from rollout_console.api.fields import Body
from rollout_console.api.rows import alert_dict
from rollout_console.catalog.models import Workflow
from rollout_console.containment import lifecycle
from rollout_console.containment.services import contain_permit, rollout_contain
from rollout_console.containment.targets import Press
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.exposure.services import current_number
from rollout_console.rollouts import services as rollouts
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.plan_yaml import PlanText, PlanUnreadable, plan_json_load, yaml_load
from signals.alerts import services as alerts
from signals.alerts.selectors import alert_row

KEY: Final = "Idempotency-Key"
ALERT_ID_MAX: Final = 2**63 - 1


class RawParser(parsers.BaseParser):
    """Hands the text on: the service names the line of what is wrong with it."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return body_read(stream)


class YamlParser(RawParser):
    media_type = "application/yaml"


class XYamlParser(RawParser):
    media_type = "application/x-yaml"


class TextYamlParser(RawParser):
    media_type = "text/yaml"


class JsonTextParser(RawParser):
    media_type = "application/json"


class PlanView(ApiView):
    parser_classes = [YamlParser, JsonTextParser, XYamlParser, TextYamlParser]

    @extend_schema(
        summary="Apply a plan",
        request={
            "application/yaml": OpenApiTypes.OBJECT,
            "application/json": OpenApiTypes.OBJECT,
        },
        parameters=[
            OpenApiParameter("dry_run", bool, description="Answer the diff, change nothing.")
        ],
        responses={200: bodies.PlanOut, 201: bodies.PlanOut, 202: bodies.PlanOut},
    )
    def put(self, request: Request, workflow: str) -> Response:
        rollouts.principal_may_plan(self.principal, workflow)
        parsed, text = _plan_read(request)
        named = _named(parsed.value)
        if named is not None and named != workflow:
            raise InvalidInput(
                f"The plan is of “{named[:80]}”, the address of “{workflow}”.",
                errors=[{"pointer": "/workflow/slug", "detail": "Use the same slug in both."}],
            )
        dry_run = request.query_params.get("dry_run", "").lower() in ("1", "true", "yes")
        result = lifecycle.plan_apply_and_publish(
            document=parsed.value,
            text=text,
            principal=self.principal,
            now=self.now,
            dry_run=dry_run,
        )
        status = 201 if result.created and not dry_run else 200
        if dry_run:
            # Undone with all else: nothing waits yet.
            result = replace(result, change=None, expires_at=None)
        elif result.change is not None:
            status = 202
        return Response({**asdict(result), "dry_run": dry_run}, status=status)


class ReadyView(ApiView):
    @extend_schema(
        summary="Make a draft ready", request=bodies.EmptyIn, responses={200: bodies.StepOut}
    )
    def post(self, request: Request, slug: str) -> Response:
        _permit(self, slug, Verb.ROLLOUT_READY)
        _checked(bodies.EmptyIn, request)
        rollout = rollouts.rollout_ready(slug=slug, principal=self.principal, now=self.now)
        return Response(
            {
                "rollout": rollout.slug,
                "version": rollout.version,
                "exposure_version": current_number(),
                "state": str(rollout.state),
            }
        )


class GoLiveView(ApiView):
    @extend_schema(
        summary="Confirm going live; takes the owner and an approver",
        request=bodies.StepIn,
        responses={200: bodies.StepOut, 202: bodies.WaitingOut},
    )
    def post(self, request: Request, slug: str) -> Response:
        _permit(self, slug, Verb.GO_LIVE, Verb.GO_LIVE_CONFIRM)
        told = _checked(bodies.StepIn, request)
        return _step(
            lifecycle.rollout_go_live(
                slug=slug,
                principal=self.principal,
                now=self.now,
                expected_version=told.get("expected_version"),
            )
        )


class CompleteView(ApiView):
    @extend_schema(
        summary="Confirm that the candidate becomes stable; takes the owner and an approver",
        request=bodies.StepIn,
        responses={200: bodies.StepOut, 202: bodies.WaitingOut},
    )
    def post(self, request: Request, slug: str) -> Response:
        _permit(self, slug, Verb.COMPLETE, Verb.COMPLETE_CONFIRM)
        told = _checked(bodies.StepIn, request)
        return _step(
            lifecycle.rollout_complete(
                slug=slug,
                principal=self.principal,
                now=self.now,
                expected_version=told.get("expected_version"),
            )
        )


class AbandonView(ApiView):
    @extend_schema(
        summary="Close a rollout with findings",
        request=bodies.AbandonIn,
        responses={200: bodies.StepOut},
    )
    def post(self, request: Request, slug: str) -> Response:
        _permit(self, slug, Verb.ABANDON)
        told = _checked(bodies.AbandonIn, request)
        return _step(
            lifecycle.rollout_abandon(
                slug=slug, findings=told["findings"], principal=self.principal, now=self.now
            )
        )


class ContainmentView(ApiView):
    @extend_schema(
        summary="Contain a rollout",
        request=bodies.ContainmentIn,
        parameters=[
            OpenApiParameter(
                KEY,
                str,
                OpenApiParameter.HEADER,
                required=True,
                description="1 to 200 characters; the same key gets the same outcome.",
            )
        ],
        responses={200: bodies.OutcomeOut, 202: bodies.OutcomeWaitingOut},
    )
    def post(self, request: Request, slug: str) -> Response:
        rollout = _found(self, slug)
        told = _checked(bodies.ContainmentIn, request)
        action = told["action"]
        contain_permit(self.principal, action, rollout.workflow)
        outcome = rollout_contain(
            slug=slug,
            action=action,
            reason_code=told["reason"]["code"],
            note=told["reason"]["note"],
            principal=self.principal,
            key=_key(request),
            now=self.now,
            expected_version=told.get("expected_version"),
            press=_press(told),
        )
        answer = asdict(outcome)
        if outcome.waiting_for:
            return Response(answer, status=202)
        del answer["waiting_for"]
        return Response(answer)


class AlertStepView(ApiView):
    """Base of what an alert is answered with; `verb` says who may."""

    verb: Verb

    def alert(self, alert_id: int) -> int:
        row = None
        if alert_id <= ALERT_ID_MAX:
            row = Workflow.objects.filter(alerts=alert_id).first()
        if row is None or not (
            self.principal.may(Verb.READ, row.pk) or self.principal.may(self.verb, row.pk)
        ):
            raise NotFound(f"There is no alert {alert_id}.")
        require(self.principal, self.verb, row)
        return alert_id

    def answer(self, alert_id: int) -> Response:
        row = alert_row(alert_id=alert_id, now=self.now)
        assert row is not None
        return Response(alert_dict(row))


class AlertAckView(AlertStepView):
    verb = Verb.ALERT_ACKNOWLEDGE

    @extend_schema(
        summary="Take an alert on", request=bodies.EmptyIn, responses={200: alert_bodies.AlertOut}
    )
    def post(self, request: Request, alert_id: int) -> Response:
        pk = self.alert(alert_id)
        _checked(bodies.EmptyIn, request)
        alerts.alert_acknowledge(alert_id=pk, principal=self.principal, now=self.now)
        return self.answer(pk)


class AlertHoldView(AlertStepView):
    verb = Verb.ALERT_HOLD

    @extend_schema(
        summary="Stop an alert's clock",
        request=alert_bodies.HoldIn,
        responses={200: alert_bodies.AlertOut},
    )
    def post(self, request: Request, alert_id: int) -> Response:
        pk = self.alert(alert_id)
        told = _checked(alert_bodies.HoldIn, request)
        alerts.alert_hold(
            alert_id=pk,
            until=told["until"],
            reason=told["reason"],
            principal=self.principal,
            now=self.now,
        )
        return self.answer(pk)


class AlertResolveView(AlertStepView):
    verb = Verb.ALERT_RESOLVE

    @extend_schema(
        summary="Close an alert: was it right?",
        request=alert_bodies.ResolveIn,
        responses={200: alert_bodies.AlertOut},
    )
    def post(self, request: Request, alert_id: int) -> Response:
        pk = self.alert(alert_id)
        told = _checked(alert_bodies.ResolveIn, request)
        alerts.alert_resolve(
            alert_id=pk,
            was_right=told["was_right"],
            note=told["note"],
            onset_at=told.get("onset_at"),
            principal=self.principal,
            now=self.now,
        )
        return self.answer(pk)


def _checked(body: type[Body], request: Request) -> dict[str, Any]:
    serializer = body(data=request.data)
    serializer.is_valid(raise_exception=True)
    told: dict[str, Any] = serializer.validated_data
    return told


def _found(view: ApiView, slug: str) -> Rollout:
    """Return a rollout whose workflow the caller reaches in some way, or NotFound."""
    rollout = Rollout.objects.select_related("workflow").filter(slug=slug).first()
    if rollout is None:
        raise NotFound(f"There is no rollout “{slug}”.")
    principal = view.principal
    reads = principal.may(Verb.READ, rollout.workflow_id)
    # A token that may act need not be one that may read.
    if not reads and not any(principal.may(verb, rollout.workflow_id) for verb in Verb):
        raise NotFound(f"There is no rollout “{slug}”.")
    return rollout


def _permit(view: ApiView, slug: str, *verbs: Verb) -> None:
    """Refuse before the body is looked at, unless the caller may do one of `verbs`."""
    rollout = _found(view, slug)
    if any(view.principal.may(verb, rollout.workflow_id) for verb in verbs):
        return
    if len(verbs) == 1:
        require(view.principal, verbs[0], rollout.workflow)
    names = [name for verb in verbs for name in who_can(verb, rollout.workflow)]
    raise NotAllowed(
        f"This step in {rollout.workflow.name} is for: {', '.join(names) or 'nobody yet'}.",
        who_can=names,
    )


def _step(outcome: lifecycle.StepOutcome) -> Response:
    told = asdict(outcome)
    if outcome.waiting_for:
        return Response(told, status=202)
    del told["waiting_for"]
    return Response(told)


def _key(request: Request) -> str:
    """Return the idempotency key: bare, or quoted as the IETF draft has it."""
    key: str = request.headers.get(KEY, "").strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        raise InvalidInput(f"Send the header {KEY}, a new one for each command.")
    return key


def _plan_read(request: Request) -> tuple[PlanText, str]:
    # Without a body DRF asks no parser, and has an empty form instead.
    data: Any = request.data
    raw = data if isinstance(data, bytes) else b""
    as_json = (request.content_type or "").partition(";")[0].strip().lower() == "application/json"
    try:
        if as_json:
            return plan_json_load(raw), ""
        return yaml_load(raw), raw.decode("utf-8-sig")
    except PlanUnreadable as error:
        where = {} if error.line is None else {"line": error.line}
        raise InvalidInput(
            error.detail, errors=[{"pointer": "", "detail": error.detail, **where}]
        ) from error


def _named(document: Any) -> str | None:
    workflow = document.get("workflow") if isinstance(document, dict) else None
    slug = workflow.get("slug") if isinstance(workflow, dict) else None
    return slug if isinstance(slug, str) else None


def _press(told: dict[str, Any]) -> Press:
    def several(name: str) -> tuple[str, ...] | None:
        return tuple(told[name]) if name in told else None

    return Press(
        segments=several("segments"),
        share=Decimal(str(told["share"])) if "share" in told else None,
        paths=several("paths"),
        mode=told.get("mode"),
        action_route=told.get("action_route"),
    )
