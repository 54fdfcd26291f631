"""Every form of the pages by everybody who may not, from matrix and URL conf.

One test is one caller, who posts to every address that the pages have; each try is undone.
"""

from typing import Any, Final

import pytest
from django.test import Client
from django.urls import URLPattern, reverse

from approvals.authority.matrix import MATRIX, Role, Verb
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from rollout_console.web import urls
from rollout_console.web.contain import OFFERED
from tests.factories import person, rollout_at
from tests.matrix import live, logged_in, undone, written

__all__ = ["live"]

LIVE: Final = "support-reply-2026.11.2"
DRAFT: Final = "contract-summary-2026.11.2"
READY: Final = "claims-intake-2026.11.2"
PRESS: Final = {"reason": "precaution", "key": "k-1"}

# Name of the address → [(arguments, verbs of which one is enough, form)].
FORMS: Final[dict[str, list[tuple[dict[str, Any], tuple[Verb, ...], dict[str, str]]]]] = {
    "ready": [({"slug": DRAFT}, (Verb.ROLLOUT_READY,), {})],
    "go_live": [({"slug": READY}, (Verb.GO_LIVE, Verb.GO_LIVE_CONFIRM), {})],
    "contain": [
        ({"slug": LIVE, "action": action}, (Verb(action),), dict(PRESS)) for action in OFFERED
    ],
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
    "alert_ack": [({"alert_id": 1}, (Verb.ALERT_ACKNOWLEDGE,), {})],
    "alert_hold": [({"alert_id": 1}, (Verb.ALERT_HOLD,), {"seconds": "30", "reason": "looking"})],
    "alert_resolve": [({"alert_id": 1}, (Verb.ALERT_RESOLVE,), {"was_right": "no"})],
}
# What anybody may do with a session of their own.
OWN: Final = {"login", "logout"}
# Whatever an address takes; one that reads takes no form, and has to change nothing.
ARGUMENTS: Final = {
    "slug": LIVE,
    "action": "pause",
    "alert_id": 1,
    "workflow": "support-reply",
    "step": "paths",
}

CASES: Final = [
    (name, arguments, verbs, form)
    for name, cases in FORMS.items()
    for arguments, verbs, form in cases
]


@pytest.fixture
def scene(live: Rollout) -> Rollout:
    """The live rollout with its alert, and beside it a draft and a ready one."""
    rollout_at(RolloutState.DRAFT, workflow="contract-summary")
    rollout_at(RolloutState.READY, workflow="claims-intake")
    return live


@pytest.mark.parametrize("role", list(Role))
def test_a_role_changes_only_what_it_may(scene: Rollout, role: Role) -> None:
    person(f"just-{role}", role)
    client = logged_in(f"just-{role}")
    before = written()

    for name, arguments, verbs, form in CASES:
        with undone():
            response = client.post(reverse(f"web:{name}", kwargs=arguments), form)

            changed = written() != before
            may = any(role in MATRIX[verb] for verb in verbs)
            assert changed == may, (name, arguments, response.status_code)


def test_nobody_else_changes_anything(scene: Rollout) -> None:
    before = written()
    for client in (Client(), logged_in("outsider"), logged_in("owner", enforce_csrf_checks=True)):
        for name, arguments, _, form in CASES:
            response = client.post(reverse(f"web:{name}", kwargs=arguments), form)

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
