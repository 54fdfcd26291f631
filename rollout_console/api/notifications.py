"""Notifications: who is told of what, and how the deliveries go."""

from dataclasses import asdict
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.authority.matrix import Verb
from rollout_console.api.access import ApiView
from rollout_console.api.fields import Body, Choice, Flag, Text
from rollout_console.api.reads import LIST_PARAMETERS, PAGE, PAGE_MAX, listed, whole
from rollout_console.api.serializers import Out
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.notifications import services
from rollout_console.notifications.models import SEVERITIES, Channel, DeliveryState, Subscription
from rollout_console.notifications.rules import EVENT_TYPES
from rollout_console.notifications.selectors import (
    SubscriptionRow,
    delivery_row,
    delivery_rows,
    subscription_rows,
)

ID_MAX: Final = 2**62


class SubscriptionIn(Body):
    """`address` and `secret` are written, never read; left out of a change, they stay."""

    workflow = Text(max_length=80, allow_null=True, default=None)
    name = Text(max_length=services.NAME_MAX)
    channel = Choice(choices=Channel.choices)
    types = serializers.ListField(child=Choice(choices=list(EVENT_TYPES)), default=list)
    severity = Choice(choices=SEVERITIES, default="low")
    recipients = serializers.ListField(
        child=Text(max_length=150), default=list, max_length=services.RECIPIENTS_MAX
    )
    address = Text(max_length=services.ADDRESS_MAX, allow_null=True, default=None)
    secret = Text(max_length=200, allow_null=True, default=None)
    enabled = Flag(default=True)


class SubscriptionOut(Out):
    id = serializers.IntegerField()
    workflow = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    channel = serializers.ChoiceField(Channel.choices)
    types = serializers.ListField(child=serializers.CharField())
    severity = serializers.ChoiceField(SEVERITIES)
    recipients = serializers.ListField(child=serializers.CharField())
    address = serializers.CharField(help_text="The part that may be shown.")
    enabled = serializers.BooleanField()
    stopped_why = serializers.CharField()
    old_secret_until = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    waiting = serializers.IntegerField()
    failing = serializers.IntegerField()
    delivered_at = serializers.DateTimeField(allow_null=True)


class SubscriptionMadeOut(SubscriptionOut):
    secret = serializers.CharField(help_text="The signing secret, this once; webhooks only.")


class AttemptOut(Out):
    at = serializers.DateTimeField()
    took_ms = serializers.IntegerField()
    http_status = serializers.IntegerField(allow_null=True)
    error = serializers.CharField()


class DeliveryOut(Out):
    id = serializers.IntegerField()
    event = serializers.CharField(help_text="The header `webhook-id` of every attempt.")
    type = serializers.CharField()
    workflow = serializers.CharField()
    rollout = serializers.CharField(allow_null=True)
    subscription = serializers.IntegerField(allow_null=True)
    to = serializers.CharField()
    channel = serializers.ChoiceField(Channel.choices)
    state = serializers.ChoiceField(DeliveryState.choices)
    created_at = serializers.DateTimeField()
    attempts = serializers.IntegerField()
    attempted_at = serializers.DateTimeField(allow_null=True)
    http_status = serializers.IntegerField(allow_null=True)
    error = serializers.CharField()
    next_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    tries = AttemptOut(many=True)


class TestedOut(Out):
    deliveries = serializers.ListField(child=serializers.IntegerField())


class SubscriptionsView(ApiView):
    @extend_schema(
        summary="Who is told of what",
        responses=listed(SubscriptionOut),
    )
    def get(self, request: Request) -> Response:
        rows = subscription_rows(workflow_ids=[row.pk for row in self.readable()], now=self.now)
        return Response({"results": [asdict(row) for row in rows], "next": None})

    @extend_schema(
        summary="Set up a subscription",
        description="Without `workflow` it is for every one, without `types` for every type. "
        "A webhook's signing secret is answered this once, and made unless it is given.",
        request=SubscriptionIn,
        responses={201: SubscriptionMadeOut},
    )
    def post(self, request: Request) -> Response:
        given = request.data if isinstance(request.data, dict) else {}
        workflow = _workflow(self, given.get("workflow"))
        principal = self.principal
        if workflow is not None or not any(
            principal.may(Verb.NOTIFICATIONS_MANAGE, row.pk) for row in self.readable()
        ):
            # Before the rest of the body is looked at; who may somewhere is told what is wrong.
            services.manage_require(principal, workflow)
        made, secret = services.subscription_create(
            workflow=workflow, told=_told(request), principal=principal, now=self.now
        )
        return Response({**asdict(_row(self, made.pk)), "secret": secret}, status=201)


class SubscriptionView(ApiView):
    @extend_schema(summary="A subscription", responses=SubscriptionOut)
    def get(self, request: Request, subscription_id: int) -> Response:
        return Response(asdict(_row(self, subscription_id)))

    @extend_schema(
        summary="Change a subscription",
        description="Workflow and channel stay. A secret is renewed, not put.",
        request=SubscriptionIn,
        responses=SubscriptionOut,
    )
    def put(self, request: Request, subscription_id: int) -> Response:
        found = _permit(self, subscription_id)
        told = _told(request)
        slug = None if found.workflow is None else found.workflow.slug
        given: Any = request.data
        if given.get("workflow", slug) != slug:
            detail = "The workflow stays: remove this one and set up another."
            raise InvalidInput(detail, errors=[{"pointer": "/workflow", "detail": detail}])
        services.subscription_change(
            subscription_id=subscription_id,
            told=told,
            principal=self.principal,
            now=self.now,
        )
        return Response(asdict(_row(self, subscription_id)))

    @extend_schema(summary="Remove a subscription", responses={204: None})
    def delete(self, request: Request, subscription_id: int) -> Response:
        _permit(self, subscription_id)
        services.subscription_remove(
            subscription_id=subscription_id, principal=self.principal, now=self.now
        )
        return Response(status=204)


class SubscriptionTestView(ApiView):
    @extend_schema(
        summary="Send a test the way everything else goes",
        request=None,
        responses={202: TestedOut},
    )
    def post(self, request: Request, subscription_id: int) -> Response:
        _permit(self, subscription_id)
        made = services.subscription_test(
            subscription_id=subscription_id, principal=self.principal, now=self.now
        )
        return Response({"deliveries": [each.pk for each in made]}, status=202)


class SubscriptionSecretView(ApiView):
    @extend_schema(
        summary="Renew a webhook's signing secret; the old one signs beside it for a day",
        request=None,
        responses=SubscriptionMadeOut,
    )
    def post(self, request: Request, subscription_id: int) -> Response:
        _permit(self, subscription_id)
        _, secret = services.subscription_secret_renew(
            subscription_id=subscription_id, principal=self.principal, now=self.now
        )
        return Response({**asdict(_row(self, subscription_id)), "secret": secret})


class DeliveriesView(ApiView):
    @extend_schema(
        summary="Deliveries, the newest first",
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter("state", str, enum=["all", "failing"]),
            OpenApiParameter("subscription", int),
        ],
        responses=listed(DeliveryOut),
    )
    def get(self, request: Request) -> Response:
        limit = whole(request, "limit", default=PAGE, least=1, most=PAGE_MAX)
        rows = delivery_rows(
            workflow_slugs=[row.slug for row in self.readable()],
            failing=request.query_params.get("state") == "failing",
            subscription_id=whole(request, "subscription", default=0, least=0, most=ID_MAX) or None,
            before=whole(request, "cursor", default=0, least=0, most=ID_MAX) or None,
            limit=limit + 1,
        )
        following = str(rows[limit - 1].id) if len(rows) > limit else None
        return Response({"results": [asdict(row) for row in rows[:limit]], "next": following})


class DeliveryReplayView(ApiView):
    @extend_schema(
        summary="Send a delivery again, under the same id",
        request=None,
        responses={202: DeliveryOut},
    )
    def post(self, request: Request, delivery_id: int) -> Response:
        services.delivery_replay(delivery_id=delivery_id, principal=self.principal, now=self.now)
        row = delivery_row(
            delivery_id=delivery_id, workflow_slugs=[row.slug for row in self.readable()]
        )
        if row is None:
            # Whoever may manage need not be one who may read.
            return Response(status=202)
        return Response(asdict(row), status=202)


def _told(request: Request) -> services.Told:
    body = SubscriptionIn(data=request.data)
    body.is_valid(raise_exception=True)
    told: dict[str, Any] = dict(body.validated_data)
    del told["workflow"]
    return services.Told(
        **{**told, "types": tuple(told["types"]), "recipients": tuple(told["recipients"])}
    )


def _workflow(view: ApiView, slug: Any) -> Workflow | None:
    """Return the workflow that a body names; what is no name is for the body's check to say."""
    if not isinstance(slug, str):
        return None
    found = (
        Workflow.objects.select_related("owner", "deputy")
        .filter(slug=slug.replace("\x00", ""))
        .first()
    )
    verbs = (Verb.READ, Verb.NOTIFICATIONS_MANAGE)
    if found is None or not any(view.principal.may(verb, found.pk) for verb in verbs):
        raise NotFound(f"There is no workflow “{slug[:80]}”.")
    return found


def _row(view: ApiView, subscription_id: int) -> SubscriptionRow:
    rows = subscription_rows(
        workflow_ids=[row.pk for row in view.readable()],
        now=view.now,
        subscription_id=subscription_id,
    )
    if not rows:
        raise NotFound(f"There is no subscription {subscription_id}.")
    return rows[0]


def _permit(view: ApiView, subscription_id: int) -> Subscription:
    """Refuse before the body is looked at."""
    return services.subscription_permit(subscription_id=subscription_id, principal=view.principal)
