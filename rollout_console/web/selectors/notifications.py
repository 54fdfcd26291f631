"""The notifications page: who is told of what, and how the deliveries go."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings

from approvals.authority.matrix import Role, Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.notifications.models import SEVERITIES, Channel
from rollout_console.notifications.rules import EVENT_TYPES
from rollout_console.notifications.selectors import (
    DeliveryRow,
    SubscriptionRow,
    delivery_rows,
    subscription_rows,
    without_address,
)
from rollout_console.web.selectors.shell import readable_workflows
from rollout_console.web.words import CHANNELS, DELIVERIES, Shown

PAGE: Final = 30
# So many tries of a delivery are listed; the API has them all.
TRIES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class ShownSubscription:
    """A subscription as a row: for which workflow, of what, to whom, and how it goes."""

    row: SubscriptionRow
    workflow: str
    channel: str
    about: str
    to: str
    shown: Shown
    may: bool


@dataclass(frozen=True, slots=True)
class ShownDelivery:
    row: DeliveryRow
    title: str
    workflow: str
    channel: str
    shown: Shown
    may: bool


@dataclass(frozen=True, slots=True)
class NotificationsView:
    """`managers` can set things up where the reader may not; `unreachable` cannot be mailed."""

    subscriptions: list[ShownSubscription]
    deliveries: list[ShownDelivery]
    older: int | None
    mail_on: bool
    unreachable: list[str]
    may: bool
    managers: list[str]


def notifications_view(
    *,
    principal: Principal,
    now: datetime,
    failing: bool = False,
    subscription_id: int | None = None,
    before: int | None = None,
) -> NotificationsView:
    """Return the page for a person: of the workflows that they may read.

    With `subscription_id` only that one, and its deliveries.
    """
    workflows = readable_workflows(principal)
    names = {row.slug: row.name for row in workflows.values()}
    may_in = {
        row.slug: principal.may(Verb.NOTIFICATIONS_MANAGE, row.pk) for row in workflows.values()
    }
    everywhere = principal.may(Verb.NOTIFICATIONS_MANAGE, None)
    subscriptions = subscription_rows(
        workflow_ids=list(workflows), now=now, subscription_id=subscription_id
    )
    deliveries = delivery_rows(
        workflow_slugs=list(names),
        failing=failing,
        subscription_id=subscription_id,
        before=before,
        limit=PAGE + 1,
    )
    may = everywhere or any(may_in.values())
    return NotificationsView(
        subscriptions=[
            ShownSubscription(
                row=row,
                workflow="Every workflow" if row.workflow is None else names[row.workflow],
                channel=CHANNELS[row.channel],
                about=_about(row),
                to=", ".join(row.recipients) if row.channel == Channel.EMAIL else row.address,
                shown=_state(row),
                may=everywhere if row.workflow is None else may_in[row.workflow],
            )
            for row in subscriptions
        ],
        deliveries=[
            ShownDelivery(
                row=row,
                title=EVENT_TYPES.get(row.type, "A test" if "test" in row.type else row.type),
                workflow=names.get(row.workflow, ""),
                channel=CHANNELS[row.channel],
                shown=DELIVERIES[row.state],
                may=everywhere or may_in.get(row.workflow, False),
            )
            for row in deliveries[:PAGE]
        ],
        older=deliveries[PAGE - 1].id if len(deliveries) > PAGE else None,
        mail_on=settings.EMAIL_ON,
        unreachable=without_address(workflow_ids=list(workflows)),
        may=may,
        managers=[] if may else _managers(principal),
    )


def workflow_options(*, principal: Principal) -> list[tuple[str, str]]:
    """Return slug and name of the workflows whose notifications `principal` may set up."""
    options = [("", "Every workflow")] if principal.may(Verb.NOTIFICATIONS_MANAGE, None) else []
    return options + [
        (row.slug, row.name)
        for row in sorted(readable_workflows(principal).values(), key=lambda row: row.name)
        if principal.may(Verb.NOTIFICATIONS_MANAGE, row.pk)
    ]


def form_options() -> dict[str, object]:
    """Return what the form offers: event types with their words, severities, roles."""
    return {
        "all_types": list(EVENT_TYPES.items()),
        "severities": SEVERITIES,
        "roles": [role.value for role in Role],
    }


def _about(row: SubscriptionRow) -> str:
    floor = "" if row.severity == SEVERITIES[0] else f"; alerts from {row.severity} on"
    if not row.types:
        return f"Everything{floor}"
    return "; ".join(EVENT_TYPES.get(each, each) for each in row.types) + floor


def _state(row: SubscriptionRow) -> Shown:
    if not row.enabled:
        return Shown("Stopped" if row.stopped_why else "Off", "stop", "none")
    if row.failing:
        return Shown("Failing", "breach", "breach")
    return Shown("On", "ok", "ok")


def _managers(principal: Principal) -> list[str]:
    names: dict[str, None] = {}
    for workflow in readable_workflows(principal).values():
        names |= dict.fromkeys(who_can(Verb.NOTIFICATIONS_MANAGE, workflow))
    return list(names)[:10]
