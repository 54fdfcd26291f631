from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import F, Func, IntegerField, QuerySet, Subquery

from approvals.authority.matrix import Role, Verb
from approvals.authority.principals import Principal
from approvals.expansions.selectors import OpenReview, outstanding
from rollout_console.catalog.models import Person, Workflow
from rollout_console.core.heartbeats import KEEPER, WORKER
from rollout_console.core.models import Heartbeat
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import EXPOSING
from signals.alerts.models import Alert, AlertState

# A background round older than this is said to be missing.
MISSING_AFTER_S: Final = 15


@dataclass(frozen=True, slots=True)
class Shell:
    """The frame around every page.

    `watched_at` is when triggers were last evaluated; `notice` says what is missing behind the
    scenes, "" when all is well; `roles` are the reader's, over all workflows. `approvals` is how
    much waits for the reader, `reviews` what was started by break-glass and is not reviewed.
    """

    exposed: int
    alerts: int
    approvals: int
    reviews: list[OpenReview]
    watched_at: datetime | None
    notice: str
    roles: str


def readable_ids(principal: Principal) -> list[int] | None:
    """Return the ids of workflows that `principal` may read, None for all of them."""
    if principal.may(Verb.READ, None):
        return None
    return [pk for pk in principal.roles if pk is not None and principal.may(Verb.READ, pk)]


def readable_workflows(principal: Principal) -> dict[int, Workflow]:
    """Return the workflows that `principal` may read, by id, with owner and deputy."""
    workflows = Workflow.objects.select_related("owner", "deputy").order_by("pk")
    ids = readable_ids(principal)
    if ids is not None:
        workflows = workflows.filter(pk__in=ids)
    return {workflow.pk: workflow for workflow in workflows}


def shell(*, principal: Principal, now: datetime) -> Shell:
    """Return the frame for a person's pages."""
    rollouts = Rollout.objects.filter(state__in=[state.value for state in EXPOSING])
    alerts = Alert.objects.exclude(state=AlertState.RESOLVED)
    ids = readable_ids(principal)
    if ids is not None:
        rollouts = rollouts.filter(workflow__in=ids)
        alerts = alerts.filter(workflow__in=ids)
    to_do = outstanding(principal, workflow_ids=ids)
    assert principal.person_id is not None
    # In one question, which every poll of every page asks.
    exposed, open_alerts, *beaten = (
        Person.objects.filter(pk=principal.person_id)
        .values_list(_count(rollouts), _count(alerts), _beat(WORKER), _beat(KEEPER))
        .get()
    )
    names = zip((WORKER, KEEPER), beaten, strict=True)
    beats = {name: at for name, at in names if at is not None}
    return Shell(
        exposed=exposed,
        alerts=open_alerts,
        approvals=len(to_do.waiting),
        reviews=to_do.reviews,
        watched_at=max(beats.values(), default=None),
        notice=_notice(beats, now),
        roles=", ".join(_roles(principal)) or "no role yet",
    )


def _count(rows: QuerySet[Any]) -> Subquery:
    # `Count` would group the subquery by its row.
    counted = Func(F("pk"), function="count", output_field=IntegerField())
    return Subquery(rows.order_by().values(counted=counted))


def _beat(name: str) -> Subquery:
    return Subquery(Heartbeat.objects.filter(name=name).values("at"))


def _notice(beats: dict[str, datetime], now: datetime) -> str:
    oldest = now - timedelta(seconds=MISSING_AFTER_S)
    worker, keeper = (beats.get(name) for name in (WORKER, KEEPER))
    if worker is not None and worker >= oldest:
        return ""
    if keeper is not None and keeper >= oldest:
        return (
            "The workers or their message store do not answer. The keeper drains, evaluates and"
            " runs clocks by itself from the database; containment works as always."
        )
    return (
        "Nothing has evaluated triggers for a while: neither the workers nor the keeper answer,"
        " so the signals below are old. Containment still works: it needs the database alone."
    )


def _roles(principal: Principal) -> list[str]:
    held: set[Role] = set()
    for roles in principal.roles.values():
        held |= roles
    return [role.value for role in Role if role in held]
