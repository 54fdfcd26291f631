"""Take in what other systems send: each alert by itself, and the good ones of a bad batch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.core.canonical import digest
from rollout_console.core.errors import DomainError, InvalidInput, NotFound
from rollout_console.core.nudge import task_send_on_commit
from signals.guards.models import Guard, GuardKind
from signals.inbound.mapping import PATH, TRIGGER, WORKFLOW, Rule, rule_of, rules_of, rules_read
from signals.inbound.models import InboundMappingVersion
from signals.inbound.payloads import Fault, InboundAlert, batch_read
from signals.outside.services import Told, outside_alert_put

# What looks at guards; it does so each second anyway.
WATCH = "console.tick"
_LOCK = "inbound_mapping"


class AlertUnmapped(DomainError):
    """No label and no rule says which trigger or path an alert is about."""

    code = "alert-unmapped"
    title = "No trigger or path is known for this alert"
    status = 400


@dataclass
class Receipt:
    """What became of a batch, by alert: some may be about several workflows."""

    began: int = 0
    repeated: int = 0
    ended: int = 0
    truncated: int = 0
    errors: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Target:
    workflow: Workflow
    path: WorkflowPath
    trigger: str


def alerts_receive(*, source: str, document: Any, principal: Principal, now: datetime) -> Receipt:
    """Keep the alerts of a batch; what cannot be used stands in the receipt's `errors`.

    Kept again changes nothing, so a sender may repeat a batch as often as it likes.

    Raises:
        NotAllowed, NotFound, AlertUnmapped, InvalidInput: not one alert could be used.
    """
    batch = batch_read(document, source=source)
    receipt = Receipt(truncated=batch.truncated, errors=list(batch.faults))
    refusals: list[DomainError] = []
    used = 0
    for alert in batch.alerts:
        try:
            for target in _targets(alert, principal):
                _put(alert, target, receipt, source=source, principal=principal, now=now)
            used += 1
        except DomainError as refusal:
            refusals.append(refusal)
            pointer = f"/alerts/{alert.index}/labels"
            receipt.errors.append(
                {"index": alert.index, "pointer": pointer, "detail": refusal.detail}
            )
    receipt.errors.sort(key=lambda fault: fault.get("index", -1))
    if used == 0 and receipt.errors:
        _refuse(refusals, receipt.errors)
    return receipt


def _refuse(refusals: list[DomainError], errors: list[Fault]) -> None:
    """Raise for a batch of which nothing could be used: as for its first alert, with all faults."""
    if refusals and not isinstance(refusals[0], AlertUnmapped):
        raise refusals[0]
    detail = str(errors[0]["detail"])
    if refusals:
        raise AlertUnmapped(detail, errors=errors)
    raise InvalidInput(f"The alerts cannot be read: {detail}", errors=errors)


def _put(
    alert: InboundAlert,
    target: _Target,
    receipt: Receipt,
    *,
    source: str,
    principal: Principal,
    now: datetime,
) -> None:
    told = Told(
        source=source,
        fingerprint=alert.fingerprint,
        name=alert.name,
        summary=alert.summary,
        labels=dict(alert.labels),
        link=alert.link,
        started_at=alert.started_at,
        is_firing=alert.is_firing,
        is_silent=alert.is_silent,
    )
    with transaction.atomic():
        change = outside_alert_put(
            told=told,
            workflow=target.workflow,
            path=target.path,
            trigger=target.trigger,
            principal=principal,
            now=now,
        )
        if change != "repeated":
            task_send_on_commit(WATCH)
    if change == "began":
        receipt.began += 1
    elif change == "ended":
        receipt.ended += 1
    else:
        receipt.repeated += 1


def _targets(alert: InboundAlert, principal: Principal) -> list[_Target]:
    """Return what an alert is about.

    Raises:
        NotFound, NotAllowed, AlertUnmapped
    """
    named = alert.labels.get(WORKFLOW)
    if named is not None:
        workflow = _workflow(named, principal)
        rule = rule_of(alert.labels, mapping_rules(workflow))
        if rule is None:
            raise AlertUnmapped(
                f"{alert.name}: add the label {TRIGGER} or {PATH}, or a rule to the inbound"
                f" mapping of {workflow.slug} that fits these labels."
            )
        return [_target(workflow, rule, alert)]
    workflows = list(_reached(principal))
    if not workflows:
        raise NotAllowed("Sending alerts needs the scope “ingest”.", needs="ingest")
    found = [
        _target(workflow, rule, alert)
        for workflow in workflows
        # Without a workflow's name a path's says nothing.
        if (rule := _rule_fitting(alert, workflow)) is not None
    ]
    if not found:
        raise AlertUnmapped(
            f"{alert.name}: it has no label {WORKFLOW}, and no workflow has a rule in its inbound"
            " mapping that fits its labels."
        )
    return found


def _rule_fitting(alert: InboundAlert, workflow: Workflow) -> Rule | None:
    own = {name: value for name, value in alert.labels.items() if name not in (TRIGGER, PATH)}
    return rule_of(own, mapping_rules(workflow))


def _workflow(slug: str, principal: Principal) -> Workflow:
    found = Workflow.objects.select_related("owner", "deputy").filter(slug=slug).first()
    if found is None or not (
        principal.may(Verb.READ, found.pk) or principal.may(Verb.ALERT_SEND, found.pk)
    ):
        raise NotFound(f"The label {WORKFLOW} names no workflow here: “{slug[:80]}”.")
    require(principal, Verb.ALERT_SEND, found)
    return found


def _reached(principal: Principal) -> Iterator[Workflow]:
    for workflow in Workflow.objects.select_related("owner", "deputy").order_by("slug"):
        if principal.may(Verb.ALERT_SEND, workflow.pk):
            yield workflow


def _target(workflow: Workflow, rule: Rule, alert: InboundAlert) -> _Target:
    path = workflow.paths.filter(slug=rule.path).first() if rule.path else None
    if rule.path and path is None:
        known = ", ".join(workflow.paths.order_by("slug").values_list("slug", flat=True)[:20])
        raise AlertUnmapped(
            f"{alert.name}: {workflow.slug} has no path “{rule.path[:80]}”; it has: {known}."
        )
    if rule.trigger:
        guard = _trigger(workflow, rule.trigger, alert)
        if path is not None and path.pk != guard.path_id:
            raise AlertUnmapped(
                f"{alert.name}: the trigger “{guard.slug}” watches the path"
                f" “{guard.path.slug}”, not “{path.slug}”."
            )
        # That nothing is known is no harm seen: it marks the path, and trips nothing.
        return _Target(workflow, guard.path, "" if alert.is_no_data else guard.slug)
    if path is None:
        raise AlertUnmapped(f"{alert.name}: the label {PATH} is empty.")
    return _Target(workflow, path, "")


def _trigger(workflow: Workflow, slug: str, alert: InboundAlert) -> Guard:
    triggers = Guard.objects.filter(workflow=workflow, kind=GuardKind.TRIGGER, retired_at=None)
    guard = triggers.filter(slug=slug).select_related("path").order_by("-armed", "-pk").first()
    if guard is None:
        known = ", ".join(triggers_known(workflow)[:20]) or "none yet"
        raise AlertUnmapped(
            f"{alert.name}: no plan of {workflow.slug} has a trigger “{slug[:80]}”; there is:"
            f" {known}."
        )
    return guard


def triggers_known(workflow: Workflow) -> list[str]:
    """Return the slugs of the triggers that the workflow's current plans have."""
    triggers = Guard.objects.filter(workflow=workflow, kind=GuardKind.TRIGGER, retired_at=None)
    return sorted(set(triggers.values_list("slug", flat=True)))


def mapping_rules(workflow: Workflow) -> list[Rule]:
    """Return a workflow's rules in force."""
    newest = InboundMappingVersion.objects.filter(workflow=workflow).order_by("-id").first()
    return [] if newest is None else rules_of(newest.document)


def mapping_document(*, workflow: Workflow) -> dict[str, Any]:
    """Return a workflow's rules in force, who put them when, and which of their triggers no
    current plan has."""
    newest = InboundMappingVersion.objects.filter(workflow=workflow).order_by("-id").first()
    if newest is None:
        return {"version": 0, "put_at": None, "put_by": "", "rules": [], "triggers_missing": []}
    rules = rules_of(newest.document)
    known = triggers_known(workflow)
    missing = sorted({rule.trigger for rule in rules if rule.trigger} - set(known))
    return {
        "version": newest.pk,
        "put_at": newest.put_at,
        "put_by": newest.put_by,
        "rules": newest.document.get("rules", []),
        "triggers_missing": missing,
    }


@transaction.atomic
def mapping_put(*, workflow: Workflow, document: Any, principal: Principal, now: datetime) -> bool:
    """Put a workflow's rules for alerts from outside; return whether they are new.

    Raises:
        NotAllowed, InvalidInput.
    """
    require(principal, Verb.INBOUND_MAPPING_EDIT, workflow)
    paths = list(workflow.paths.order_by("slug").values_list("slug", flat=True))
    rules, faults = rules_read(document, paths=paths)
    if faults:
        raise InvalidInput(f"The mapping does not fit: {faults[0]['detail']}", errors=faults)
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [_LOCK])
    newest = InboundMappingVersion.objects.filter(workflow=workflow).order_by("-id").first()
    content = digest(document)
    if newest is not None and newest.digest == content:
        return False
    version = InboundMappingVersion.objects.create(
        workflow=workflow,
        document=document,
        digest=content,
        put_at=now,
        put_by=principal.name[:150],
    )
    audit.append(
        "inbound_mapping.put",
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="inbound_mapping",
        subject=version.pk,
        data={"rules": len(rules), "digest": content},
    )
    return True
