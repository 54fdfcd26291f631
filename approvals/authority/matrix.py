"""Who may do what, as data. Buttons, endpoints, docs and tests all read these tables.

Pure: no Django. Roles are those of requirement I1; verbs are what services ask for.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    VIEWER = "viewer"
    LEAD = "lead"
    REVIEWER = "reviewer"
    APPROVER = "approver"
    OWNER = "owner"
    DEPUTY = "deputy"
    ADMINISTRATOR = "administrator"


class Scope(StrEnum):
    INGEST = "ingest"
    EVALUATE = "evaluate"
    ACT = "act"
    RELEASE = "release"
    CONTROL = "control"
    READ = "read"


class Verb(StrEnum):
    READ = "read"
    PAUSE = "pause"
    NARROW = "narrow"
    FALLBACK = "fallback"
    ROLLBACK = "rollback"
    DISABLE_ACTION = "disable_action"
    REQUIRE_APPROVAL = "require_approval"
    ESCALATE = "escalate"
    RESUME = "resume"
    CLEAR_FALLBACK = "clear_fallback"
    ENABLE_ACTION = "enable_action"
    ALERT_SEND = "alert_send"
    ALERT_ACKNOWLEDGE = "alert_acknowledge"
    ALERT_HOLD = "alert_hold"
    ALERT_RESOLVE = "alert_resolve"
    PLAN_EDIT = "plan_edit"
    PLAN_CHANGE_APPROVE = "plan_change_approve"
    RELEASE_REGISTER = "release_register"
    SPAN_MAPPING_EDIT = "span_mapping_edit"
    INBOUND_MAPPING_EDIT = "inbound_mapping_edit"
    PRICES_EDIT = "prices_edit"
    PULL_MANAGE = "pull_manage"
    NOTIFICATIONS_MANAGE = "notifications_manage"
    ROLLOUT_READY = "rollout_ready"
    GO_LIVE = "go_live"
    GO_LIVE_CONFIRM = "go_live_confirm"
    ABANDON = "abandon"
    COMPLETE = "complete"
    COMPLETE_CONFIRM = "complete_confirm"
    EXPANSION_REQUEST = "expansion_request"
    EXPANSION_APPROVE = "expansion_approve"
    EXPANSION_START = "expansion_start"
    SECOND_PERSON = "second_person"
    IMPACT_PUBLISH = "impact_publish"
    ACT = "act"
    PEOPLE_MANAGE = "people_manage"
    TOKENS_MANAGE = "tokens_manage"


_CONTAINERS: Final = frozenset({Role.OWNER, Role.DEPUTY})
_ALL: Final = frozenset(Role)

MATRIX: Final[dict[Verb, frozenset[Role]]] = {
    Verb.READ: _ALL,
    Verb.PAUSE: _CONTAINERS,
    Verb.NARROW: _CONTAINERS,
    Verb.FALLBACK: _CONTAINERS,
    Verb.ROLLBACK: _CONTAINERS,
    Verb.DISABLE_ACTION: _CONTAINERS,
    Verb.REQUIRE_APPROVAL: _CONTAINERS,
    Verb.ESCALATE: _ALL - {Role.ADMINISTRATOR},
    Verb.RESUME: frozenset({Role.OWNER}),
    Verb.CLEAR_FALLBACK: frozenset({Role.OWNER}),
    Verb.ENABLE_ACTION: frozenset({Role.OWNER}),
    # What another system says trips triggers, which may contain: it is for who may.
    Verb.ALERT_SEND: _CONTAINERS,
    Verb.ALERT_ACKNOWLEDGE: _CONTAINERS,
    Verb.ALERT_HOLD: _CONTAINERS,
    Verb.ALERT_RESOLVE: _CONTAINERS,
    Verb.PLAN_EDIT: _CONTAINERS,
    Verb.PLAN_CHANGE_APPROVE: frozenset({Role.APPROVER}),
    Verb.RELEASE_REGISTER: _CONTAINERS,
    Verb.SPAN_MAPPING_EDIT: _CONTAINERS,
    Verb.INBOUND_MAPPING_EDIT: _CONTAINERS,
    # One sheet serves every workflow; whoever owns any of them may put it.
    Verb.PRICES_EDIT: _CONTAINERS,
    # Where figures are asked for is a setting: it neither exposes nor contains.
    Verb.PULL_MANAGE: _CONTAINERS | {Role.ADMINISTRATOR},
    # Who is told of what; a person's alone, since it sends what happens here elsewhere.
    Verb.NOTIFICATIONS_MANAGE: frozenset({Role.OWNER, Role.ADMINISTRATOR}),
    Verb.ROLLOUT_READY: _CONTAINERS,
    Verb.GO_LIVE: frozenset({Role.OWNER}),
    Verb.GO_LIVE_CONFIRM: frozenset({Role.APPROVER}),
    Verb.ABANDON: _CONTAINERS,
    Verb.COMPLETE: frozenset({Role.OWNER}),
    Verb.COMPLETE_CONFIRM: frozenset({Role.APPROVER}),
    Verb.EXPANSION_REQUEST: _CONTAINERS,
    Verb.EXPANSION_APPROVE: frozenset({Role.APPROVER}),
    Verb.EXPANSION_START: frozenset({Role.OWNER}),
    Verb.SECOND_PERSON: frozenset({Role.DEPUTY, Role.APPROVER}),
    Verb.IMPACT_PUBLISH: _CONTAINERS,
    Verb.ACT: _CONTAINERS,
    Verb.PEOPLE_MANAGE: frozenset({Role.ADMINISTRATOR}),
    Verb.TOKENS_MANAGE: frozenset({Role.ADMINISTRATOR}),
}

# What a token needs, and all that a service token (nobody's own) may ever do. Automation only
# contains: no verb that widens stands under any scope.
SERVICE_SCOPES: Final[dict[Verb, Scope]] = {
    Verb.READ: Scope.READ,
    Verb.PAUSE: Scope.CONTROL,
    Verb.NARROW: Scope.CONTROL,
    Verb.FALLBACK: Scope.CONTROL,
    Verb.ROLLBACK: Scope.CONTROL,
    Verb.DISABLE_ACTION: Scope.CONTROL,
    Verb.REQUIRE_APPROVAL: Scope.CONTROL,
    Verb.ESCALATE: Scope.CONTROL,
    Verb.PLAN_EDIT: Scope.RELEASE,
    Verb.RELEASE_REGISTER: Scope.RELEASE,
    Verb.SPAN_MAPPING_EDIT: Scope.RELEASE,
    Verb.INBOUND_MAPPING_EDIT: Scope.RELEASE,
    Verb.PRICES_EDIT: Scope.RELEASE,
    Verb.PULL_MANAGE: Scope.RELEASE,
    Verb.ROLLOUT_READY: Scope.RELEASE,
    Verb.ALERT_SEND: Scope.INGEST,
    # To ask before acting, and to say what became of it.
    Verb.ACT: Scope.ACT,
}

# The scope that a personal token must carry for each verb its person may do.
PERSONAL_SCOPES: Final[dict[Verb, Scope]] = {
    verb: SERVICE_SCOPES.get(verb, Scope.CONTROL) for verb in Verb
}


def person_may(verb: Verb, *, roles: Iterable[Role], scopes: Iterable[Scope] | None = None) -> bool:
    """Return whether a person with `roles` may; `scopes` limit a personal token, None a log-in."""
    if scopes is not None and PERSONAL_SCOPES[verb] not in set(scopes):
        return False
    return not MATRIX[verb].isdisjoint(roles)


def service_may(verb: Verb, *, scopes: Iterable[Scope]) -> bool:
    """Return whether a service token with `scopes` may."""
    needed = SERVICE_SCOPES.get(verb)
    return needed is not None and needed in set(scopes)
