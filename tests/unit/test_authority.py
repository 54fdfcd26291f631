import itertools

import pytest

from approvals.authority.matrix import (
    MATRIX,
    SERVICE_SCOPES,
    Role,
    Scope,
    Verb,
    person_may,
    service_may,
)

WIDENING = {
    Verb.RESUME,
    Verb.CLEAR_FALLBACK,
    Verb.ENABLE_ACTION,
    Verb.GO_LIVE,
    Verb.GO_LIVE_CONFIRM,
    Verb.COMPLETE,
    Verb.COMPLETE_CONFIRM,
    Verb.EXPANSION_APPROVE,
    Verb.EXPANSION_START,
    Verb.SECOND_PERSON,
}


def test_every_verb_has_roles() -> None:
    assert set(MATRIX) == set(Verb)
    assert all(MATRIX.values())


@pytest.mark.parametrize("verb", sorted(WIDENING | {Verb.ALERT_HOLD}))
def test_no_service_token_widens_or_holds_a_clock(verb: Verb) -> None:
    assert verb not in SERVICE_SCOPES
    assert not service_may(verb, scopes=list(Scope))


@pytest.mark.parametrize("verb", sorted(set(Verb) - {Verb.READ}))
def test_an_administrator_neither_approves_nor_contains(verb: Verb) -> None:
    allowed = person_may(verb, roles=[Role.ADMINISTRATOR])

    settings = {Verb.PULL_MANAGE, Verb.NOTIFICATIONS_MANAGE}
    assert allowed == (verb in {Verb.PEOPLE_MANAGE, Verb.TOKENS_MANAGE} | settings)


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.NARROW, Verb.FALLBACK, Verb.ROLLBACK])
def test_one_owner_or_deputy_is_enough_to_contain(verb: Verb) -> None:
    may = {role for role in Role if person_may(verb, roles=[role])}

    assert may == {Role.OWNER, Role.DEPUTY}


def test_no_single_role_both_starts_and_confirms_going_live() -> None:
    assert MATRIX[Verb.GO_LIVE].isdisjoint(MATRIX[Verb.GO_LIVE_CONFIRM])


def test_a_personal_token_does_no_more_than_its_scopes() -> None:
    for verb, scope in itertools.product(Verb, Scope):
        if person_may(verb, roles=[Role.OWNER], scopes=[scope]):
            assert person_may(verb, roles=[Role.OWNER])
    assert not person_may(Verb.ROLLBACK, roles=[Role.OWNER], scopes=[Scope.READ])
    assert person_may(Verb.ROLLBACK, roles=[Role.OWNER], scopes=[Scope.CONTROL])
