"""Write down what a look makes of alerts that wait, and what a reduction covers."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from django.db.models import Q

from approvals.authority.principals import SYSTEM
from rollout_console.core import outbox
from signals.alerts import locks
from signals.alerts.grouping import incident_settle, pages_start
from signals.alerts.models import Alert, AlertState, IncidentState, Reduction
from signals.alerts.records import alert_facts, alert_record
from signals.alerts.recurring import Seen, Step, recurrence
from signals.guards.evidence import started_at
from signals.guards.models import Guard, VerdictWord
from signals.guards.services import Looked

_RECOVERED = frozenset({VerdictWord.QUIET, VerdictWord.WATCHING})


def recurrences_note(looked: Iterable[Looked], *, now: datetime) -> set[int]:
    """Bring unresolved alerts up to what their triggers say; return the guards that have one."""
    words = {each.guard.pk: each.verdict.verdict for each in looked}
    # All that wait are few; the guards looked at may be thousands.
    found = Alert.objects.exclude(state=AlertState.RESOLVED).filter(guard__isnull=False)
    waiting = set()
    for alert in found.select_related("guard").order_by("pk"):
        guard = alert.about_guard
        if guard.pk not in words:
            continue
        waiting.add(guard.pk)
        step = _step(alert, words, now)
        if step is not None:
            _apply(alert.pk, guard.pk, words, now=now)
    return waiting


def _step(alert: Alert, words: Mapping[int, str], now: datetime) -> Step | None:
    guard = alert.about_guard
    word = words[guard.pk]
    return recurrence(
        Seen(alert.quiet_since, alert.contained_at, guard.window_s),
        tripped=word == VerdictWord.TRIPPED,
        recovered=word in _RECOVERED,
        now=now,
    )


def _apply(alert_id: int, guard_id: int, words: Mapping[int, str], *, now: datetime) -> None:
    locks.guards().get(pk=guard_id)
    alert, incident = locks.alert_with_incident(alert_id)
    step = _step(alert, words, now)
    if step is None or alert.state == AlertState.RESOLVED:
        # Resolved, or contained, since the look began.
        return
    alert.quiet_since, alert.contained_at = step.quiet_since, step.contained_at
    fields = ["quiet_since", "contained_at"]
    if step.recurred:
        alert.recurrences += 1
        alert.recurred_at = now
        fields += ["recurrences", "recurred_at"]
    if step.pages:
        alert.acked_at, alert.acked_by, alert.quiet = None, "", False
        if alert.state == AlertState.ACKNOWLEDGED:
            alert.state = AlertState.OPEN
        fields += ["acked_at", "acked_by", "quiet", "state"]
    alert.save(update_fields=fields)
    if step.pages and incident is not None:
        pages_start(incident, now=now)
    # A trigger that flaps each second would fill the audit: the count says how often.
    if step.pages or (step.recurred and alert.recurrences == 1):
        told = {"recurrences": alert.recurrences, "pages": step.pages}
        alert_record("alert.recurred", alert, principal=SYSTEM, now=now, data=told)
        outbox.add(
            "alert.recurred",
            workflow=alert.workflow.slug,
            key=alert.pk,
            at=now,
            data={
                **alert_facts(alert),
                **told,
                "notify": [alert.owner.username] if step.pages else [],
            },
        )


def contained_since(guard: Guard, *, now: datetime) -> datetime | None:
    """Return when a reduction last covered a guard, if its evidence reaches back before that.

    A guard of a whole path is covered by what covers the whole path only.
    """
    starts = max(started_at(guard), now - timedelta(seconds=guard.window_s))
    found = Reduction.objects.filter(rollout=guard.rollout, at__gt=starts, at__lte=now)
    found = found.filter(Q(path=None) | Q(path=guard.path_id))
    found = found.filter(Q(segment=None) | Q(segment=guard.segment_id))
    return found.order_by("-at").values_list("at", flat=True).first()


def reduction_note(
    *,
    rollout_slug: str,
    path_ids: Collection[int] | None = None,
    segment_ids: Collection[int] | None = None,
    action_route: str | None = None,
    by_itself: bool,
    now: datetime,
) -> int:
    """Note that a reduction covers what alerts of a rollout are about; return how many it does.

    They page nobody any more where a person reduced. What the console did by itself goes on
    climbing the ladder until somebody has taken it on. Later alerts on evidence from before are
    contained too; not where one action route was held, which covers only what names it.
    """
    incidents = list(
        locks.incidents().filter(rollout=rollout_slug).exclude(state=IncidentState.RESOLVED)
    )
    alerts = Alert.objects.filter(rollout=rollout_slug, guard__isnull=False).exclude(
        state=AlertState.RESOLVED
    )
    if path_ids is not None:
        alerts = alerts.filter(guard__path__in=path_ids)
    if segment_ids is not None:
        alerts = alerts.filter(guard__segment__in=segment_ids)
    if action_route is not None:
        alerts = alerts.filter(guard__response__action_route=action_route)
    else:
        Reduction.objects.bulk_create(
            Reduction(rollout=rollout_slug, path_id=path_id, segment_id=segment_id, at=now)
            for path_id in (path_ids if path_ids is not None else [None])
            for segment_id in (segment_ids if segment_ids is not None else [None])
        )
    covered = alerts.update(contained_at=now, **({} if by_itself else {"quiet": True}))
    for incident in incidents:
        incident_settle(incident, principal=SYSTEM, now=now)
    return covered


def reductions_forget(*, rollout_slug: str) -> None:
    """Note that something was given back: what trips again is news."""
    Reduction.objects.filter(rollout=rollout_slug).delete()
    Alert.objects.filter(rollout=rollout_slug).exclude(state=AlertState.RESOLVED).update(
        contained_at=None
    )
