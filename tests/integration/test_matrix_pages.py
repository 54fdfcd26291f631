"""Every form of the pages by everybody who may not, from matrix and URL conf.

One test is one caller, who posts to every address that the pages have; each try is undone.
"""

from typing import Any, Final

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from approvals.authority.matrix import MATRIX, Role, Verb
from approvals.expansions.models import Decision, ExpansionRequest
from approvals.expansions.services import expansion_break_glass
from rollout_console.containment.policy import RULES
from rollout_console.rollouts.models import Rollout, RouteRestriction
from rollout_console.rollouts.states import RolloutState
from rollout_console.web import urls
from rollout_console.web.actions import slug_of
from tests.factories import completable, expansion_approved, person, principal, ripen, rollout_at
from tests.matrix import live, logged_in, undone, written

__all__ = ["live"]

LIVE: Final = "support-reply-2026.11.2"
DRAFT: Final = "contract-summary-2026.11.2"
READY: Final = "claims-intake-2026.11.2"
RIPE: Final = "order-status-2026.11.2"
PAUSED: Final = "knowledge-answers-2026.11.2"
WHOLE: Final = "refund-check-2026.11.2"
ENDED: Final = "ticket-routing-2026.11.2"
PRESS: Final = {"reason": "precaution", "key": "k-1"}
# What each containment action is told beside its reason, so that it has something to do.
SAID: Final[dict[str, dict[str, str]]] = {
    "narrow": {"segments": "internal-ops", "share": "50"},
    "fallback": {"mode": "human_review"},
    "clear_fallback": {"place": "draft"},
    "disable_action": {"action_route": "send_message"},
    "require_approval": {"action_route": "look_up"},
    "enable_action": {"action_route": "send_message"},
}

# Name of the address → [(arguments, verbs of which one is enough, form)].
FORMS: Final[dict[str, list[tuple[dict[str, Any], tuple[Verb, ...], dict[str, str]]]]] = {
    "ready": [({"slug": DRAFT}, (Verb.ROLLOUT_READY,), {})],
    "go_live": [({"slug": READY}, (Verb.GO_LIVE, Verb.GO_LIVE_CONFIRM), {})],
    "complete": [({"slug": WHOLE}, (Verb.COMPLETE, Verb.COMPLETE_CONFIRM), {})],
    "abandon": [({"slug": LIVE}, (Verb.ABANDON,), {"findings": "Too noisy."})],
    "again": [({"slug": ENDED}, (Verb.PLAN_EDIT,), {})],
    "contain": [
        (
            {"slug": PAUSED if action == "resume" else LIVE, "action": slug_of(action)},
            (Verb(action), Verb.SECOND_PERSON) if rule.widens else (Verb(action),),
            {**PRESS, **SAID.get(action, {})},
        )
        for action, rule in RULES.items()
    ],
    "expand": [
        ({"slug": RIPE}, (Verb.EXPANSION_REQUEST,), {}),
        (
            {"slug": RIPE},
            (Verb.EXPANSION_START,),
            {"break_glass": "1", "reason": "Stable is down.", "confirm": "yes"},
        ),
    ],
    "expansion_decide": [
        (
            {"request_id": 1},
            (Verb.EXPANSION_APPROVE,),
            {"decision": "reject", "reason": "not yet", "digest": "DIGEST"},
        )
    ],
    "expansion_start": [({"request_id": 2}, (Verb.EXPANSION_START,), {})],
    "expansion_review": [({"request_id": 3}, (Verb.EXPANSION_APPROVE,), {"note": "Right."})],
    "plan_edit": [
        (
            {"workflow": "support-reply", "step": "workflow"},
            (Verb.PLAN_EDIT,),
            {"do": "save", "/workflow/name": "Replies"},
        )
    ],
    "plan_new": [({"step": "workflow"}, (Verb.PLAN_EDIT,), {"do": "save"})],
    "plan_change": [
        (
            {"workflow": "support-reply", "change_id": 1},
            (Verb.PLAN_CHANGE_APPROVE,),
            {"decision": "reject", "reason": "no", "digest": "0" * 64},
        )
    ],
    "setup": [({}, (Verb.PLAN_EDIT,), {"workflow": "first-one", "path": "draft"})],
    "setup_path": [
        (
            {"workflow": "support-reply", "path": "draft"},
            (Verb.TOKENS_MANAGE,),
            {"name": "first-reporter"},
        )
    ],
    "release_new": [
        (
            {"slug": "support-reply"},
            (Verb.RELEASE_REGISTER,),
            {"do": "register", "version": "2026.12.1"},
        )
    ],
    "subscription_new": [
        (
            {"channel": "webhook"},
            (Verb.NOTIFICATIONS_MANAGE,),
            {
                "name": "second",
                "workflow": "support-reply",
                "address": "http://127.0.0.1:9/hook",
                "which": "all",
                "enabled": "on",
            },
        )
    ],
    "subscription": [
        (
            {"subscription_id": 1},
            (Verb.NOTIFICATIONS_MANAGE,),
            {"name": "renamed", "which": "all", "enabled": "on"},
        )
    ],
    "subscription_test": [({"subscription_id": 1}, (Verb.NOTIFICATIONS_MANAGE,), {})],
    "subscription_secret": [({"subscription_id": 1}, (Verb.NOTIFICATIONS_MANAGE,), {})],
    "subscription_remove": [({"subscription_id": 1}, (Verb.NOTIFICATIONS_MANAGE,), {})],
    "delivery_replay": [({"delivery_id": 1}, (Verb.NOTIFICATIONS_MANAGE,), {})],
    "outside_end": [({"slug": LIVE, "alert_id": 1}, (Verb.ALERT_RESOLVE,), {"reason": "gone"})],
    "alert_ack": [({"alert_id": 1}, (Verb.ALERT_ACKNOWLEDGE,), {})],
    "alert_hold": [({"alert_id": 1}, (Verb.ALERT_HOLD,), {"seconds": "30", "reason": "looking"})],
    "incident_ack": [({"incident_id": 1}, (Verb.ALERT_ACKNOWLEDGE,), {})],
    "incident_reopen": [({"incident_id": 2}, (Verb.ALERT_RESOLVE,), {"reason": "It goes on."})],
    "alert_resolve": [({"alert_id": 1}, (Verb.ALERT_RESOLVE,), {"was_right": "no"})],
}
# What anybody may do with a session of their own.
OWN: Final = {"login", "logout"}
# Whatever an address takes; one that reads takes no form, and has to change nothing.
ARGUMENTS: Final = {
    "slug": LIVE,
    "action": "pause",
    "alert_id": 1,
    "incident_id": 1,
    "number": 1,
    "request_id": 1,
    "workflow": "support-reply",
    "step": "paths",
    "run_id": "r-1",
    "version": "2026.11.2",
}

CASES: Final = [
    (name, arguments, verbs, form)
    for name, cases in FORMS.items()
    for arguments, verbs, form in cases
]


@pytest.fixture
def scene(live: Rollout) -> Rollout:
    """The live rollout with its alert and a request, contained in part; a draft, a ready one, a
    paused one, one to complete, one that ended, and three that widen.

    Request 1 waits for its decision, 2 for its start, 3 for its review.
    """
    rollout_at(RolloutState.DRAFT, workflow="contract-summary")
    rollout_at(RolloutState.READY, workflow="claims-intake")
    rollout_at(RolloutState.PAUSED, workflow="knowledge-answers")
    rollout_at(RolloutState.ROLLED_BACK, workflow="ticket-routing")
    now = timezone.now()
    path = live.rollout_paths.get().path
    live.modes.create(path=path, mode="simpler_route", since=now)
    route = live.workflow.action_routes.get()
    RouteRestriction.objects.create(path=path, action_route=route, state="ask", since=now)
    route.pk, route.slug, route.default = None, "look_up", "allow"
    route.save()
    ripe = [
        rollout_at(RolloutState.LIVE, workflow=workflow)
        for workflow in ("order-status", "ticket-triage", "invoice-coding")
    ]
    for rollout in ripe:
        ripen(rollout)
    approved = expansion_approved(ripe[1])
    ExpansionRequest.objects.filter(pk=approved.pk).update(id=2)
    Decision.objects.filter(request=approved.pk).update(request=2)
    alone = expansion_break_glass(
        slug=ripe[2].slug,
        reason="Stable is down.",
        confirm=True,
        principal=principal("owner"),
        now=timezone.now(),
    )
    ExpansionRequest.objects.filter(pk=alone.pk).update(id=3)
    # The last: each look at the guards before would judge its criteria anew.
    completable("refund-check")
    return live


def sent(client: Client, name: str, arguments: dict[str, Any], form: dict[str, str]) -> Any:
    """Post a form as it would be sent by somebody who has just opened it."""
    if name == "contain":
        version = Rollout.objects.get(slug=arguments["slug"]).version
        form = {**form, "expected_version": str(version)}
    if name == "complete":
        form = {"version": str(Rollout.objects.get(slug=arguments["slug"]).version)}
    if form.get("digest") == "DIGEST":
        form = {**form, "digest": ExpansionRequest.objects.get(pk=1).digest}
    return client.post(reverse(f"web:{name}", kwargs=arguments), form)


@pytest.mark.parametrize("role", list(Role))
def test_a_role_changes_only_what_it_may(scene: Rollout, role: Role) -> None:
    person(f"just-{role}", role)
    client = logged_in(f"just-{role}")
    before = written()

    for name, arguments, verbs, form in CASES:
        with undone():
            response = sent(client, name, arguments, form)

            changed = written() != before
            may = any(role in MATRIX[verb] for verb in verbs)
            assert changed == may, (name, arguments, response.status_code)


def test_nobody_else_changes_anything(scene: Rollout) -> None:
    before = written()
    for client in (Client(), logged_in("outsider"), logged_in("owner", enforce_csrf_checks=True)):
        for name, arguments, _, form in CASES:
            response = sent(client, name, arguments, form)

            assert response.status_code in (302, 403, 404), (name, response.status_code)
            assert written() == before, name


def test_no_other_address_changes_anything(scene: Rollout) -> None:
    client = logged_in("owner")
    before = written()
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        name = str(pattern.name)
        if name in FORMS or name in OWN:
            continue
        taken = {key: ARGUMENTS[key] for key in pattern.pattern.converters}

        response = client.post(reverse(f"web:{name}", kwargs=taken), PRESS)

        assert response.status_code < 500, name
        assert written() == before, name
