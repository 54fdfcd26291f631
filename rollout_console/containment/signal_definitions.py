"""Define one signal of a workflow: its plan with that signal, applied and published."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from approvals.authority.principals import Principal
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.core.errors import InvalidInput
from rollout_console.rollouts.errors import PlanConflict, PlanInvalid
from rollout_console.rollouts.plan_edit import text_edited
from rollout_console.rollouts.plan_yaml import yaml_load
from rollout_console.rollouts.selectors import plan_latest, plan_yaml_of
from rollout_console.rollouts.services import PlanResult, plan_lock, principal_may_plan

_SIGNALS: Final = "/workflow/signals"


@dataclass(frozen=True, slots=True)
class Defined:
    """What defining came to; `created` says that the slug was not defined before."""

    result: PlanResult
    created: bool


@transaction.atomic
def signal_define_and_publish(
    *, workflow: str, slug: str, definition: dict[str, Any], principal: Principal, now: datetime
) -> Defined:
    """Put a definition into the workflow's plan and apply that; the same again changes nothing.

    Raises:
        NotAllowed: not the principal's to plan.
        InvalidInput: it names another slug, or does not fit; pointers are the definition's.
        PlanConflict: the workflow has no plan yet.
        PlanInForce: guards of a rollout in force read it.
    """
    principal_may_plan(principal, workflow)
    named = definition.get("slug", slug)
    if named != slug:
        raise InvalidInput(
            "The definition names another slug than the address.",
            errors=[{"pointer": "/slug", "detail": "Use the same slug in both, or leave it out."}],
        )
    # Locked before it is read: what another door adds meanwhile stays.
    plan_lock(workflow)
    latest = plan_latest(workflow=workflow)
    if latest is None:
        raise PlanConflict(
            f"No plan of {workflow} was applied yet, and signals stand in plans: apply one first."
        )
    text = plan_yaml_of(latest)
    document = yaml_load(text).value
    row = {"slug": slug, **definition}
    signals = list(document["workflow"].get("signals") or [])
    place = next((at for at, held in enumerate(signals) if held["slug"] == slug), len(signals))
    created = place == len(signals)
    signals[place : place + 1] = [row]
    document = {**document, "workflow": {**document["workflow"], "signals": signals}}
    try:
        result = plan_apply_and_publish(
            document=document,
            text=text_edited(text, document).text if latest.text else "",
            principal=principal,
            now=now,
        )
    except PlanInvalid as refusal:
        raise _of_definition(refusal, place) from refusal
    return Defined(result, created)


def _of_definition(refusal: PlanInvalid, place: int) -> Exception:
    """Return a refusal with the pointers of the definition instead of the plan's."""
    here = f"{_SIGNALS}/{place}"
    errors = [
        {"pointer": error["pointer"].removeprefix(here), "detail": error["detail"]}
        for error in refusal.facts["errors"]
        if error["pointer"] == here or error["pointer"].startswith(f"{here}/")
    ]
    if not errors:
        return refusal
    more = f" And {len(errors) - 1} more." if len(errors) > 1 else ""
    return InvalidInput(f"{errors[0]['detail']}{more}", errors=errors)
