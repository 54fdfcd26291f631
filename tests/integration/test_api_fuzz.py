"""No body, however odd, is answered with a failure of ours."""

import json
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approvals.authority.matrix import Scope
from rollout_console.catalog.models import Person
from rollout_console.rollouts.states import RolloutState
from tests.factories import rollout_at, token
from tests.integration.test_matrix import TABLE, send

pytestmark = pytest.mark.django_db

odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["pause", "rollback", "latency", "other", "9999-12-31T23:59:59Z", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["action", "reason", "code", "note", "until", "findings", "changes", "was_right"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.fixture
def secret() -> str:
    rollout_at(RolloutState.LIVE)
    return token(*Scope, of=Person.objects.get(username="owner"))[0]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(sorted(TABLE)), body=odd, key=st.text(max_size=5))
def test_no_body_is_a_failure_of_ours(secret: str, name: str, body: Any, key: str) -> None:
    mark = transaction.savepoint()
    try:
        response = send(
            Client(raise_request_exception=False),
            name,
            json.dumps(body),
            Authorization=f"Bearer {secret}",
            **{"Idempotency-Key": key.encode("utf-8", "replace").decode("latin-1")},
        )
    finally:
        transaction.savepoint_rollback(mark)

    assert response.status_code in {200, 201, 202, 400, 404, 409, 422}, response.content
