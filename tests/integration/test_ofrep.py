import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from approvals.authority.matrix import Scope
from approvals.authority.models import ApiToken
from rollout_console.api.bare import auth
from rollout_console.api.bare.front import Front
from rollout_console.api.bare.routes import ROUTES
from rollout_console.exposure.models import ExposureVersion
from rollout_console.exposure.store import store
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from tests.bare import Caller, behind
from tests.factories import contain, rollout_at, token

pytestmark = pytest.mark.django_db

KEY = "support-reply.draft"
ONE = f"/ofrep/v1/evaluate/flags/{KEY}"
ALL = "/ofrep/v1/evaluate/flags"
FLAGS = "/flagd/v1/flags"


@pytest.fixture
def call(db: None) -> Iterator[Caller]:
    auth.forget()
    yield Caller(Front(ROUTES, behind))
    store.stop()
    auth.forget()


@pytest.fixture
def rollout(call: Caller) -> Rollout:
    """A live rollout whose exposure this process has loaded."""
    found = rollout_at(RolloutState.LIVE)
    store.refresh()
    return found


@pytest.fixture
def secret(rollout: Rollout) -> str:
    return token(Scope.EVALUATE)[0]


def context(**members: Any) -> dict[str, Any]:
    return {"context": members}


def exposed_user(call: Caller, secret: str) -> str:
    """Return the first user of the internal team whom the share takes in."""
    for n in range(100):
        body = context(targetingKey=f"user-{n}", team="internal")
        if b'"arm":"candidate"' in call.send("POST", ONE, body=body, token=secret):
            return f"user-{n}"
    raise AssertionError("nobody is exposed")


def test_an_exposed_context_gets_the_whole_answer(
    call: Caller, rollout: Rollout, secret: str
) -> None:
    user = exposed_user(call, secret)

    body = call.send("POST", ONE, body=context(targetingKey=user, team="internal"), token=secret)

    assert call.code == 200
    assert call.headers["Content-Type"] == "application/json"
    number = ExposureVersion.objects.latest("number").number
    answer = json.loads(body)
    assert (
        answer.pop("metadata").items()
        >= {
            "workflow": "support-reply",
            "path": "draft",
            "rollout": rollout.slug,
            "segment": "internal-ops",
            "exposureVersion": number,
            "unreachableMode": "previous_stable",
        }.items()
    )
    assert answer == {
        "key": KEY,
        "reason": "TARGETING_MATCH",
        "variant": "candidate:internal-ops",
        "value": {
            "release": "2026.11.2",
            "arm": "candidate",
            "mode": "normal",
            "route": None,
            "settings": {},
            "actions": {"send_message": "ask"},
            "rules": [{"when": {"input_condition": "ambiguous"}, "mode": "human_review"}],
            "segment": "internal-ops",
        },
    }


def test_who_is_not_exposed_gets_stable_and_no_segment(call: Caller, secret: str) -> None:
    body = call.send("POST", ONE, body=context(targetingKey="u", team="customer"), token=secret)

    answer = json.loads(body)
    assert (answer["value"]["release"], answer["value"]["arm"]) == ("2026.10.4", "stable")
    assert answer["value"]["segment"] is None
    assert "segment" not in answer["metadata"]


def test_after_a_roll_back_the_answer_is_stable_and_newer(
    call: Caller, rollout: Rollout, secret: str
) -> None:
    asked = context(targetingKey=exposed_user(call, secret), team="internal")
    before = json.loads(call.send("POST", ONE, body=asked, token=secret))["metadata"]

    outcome = contain(rollout, "rollback")
    store.refresh()

    answer = json.loads(call.send("POST", ONE, body=asked, token=secret))
    assert answer["value"]["release"] == "2026.10.4"
    assert answer["metadata"]["exposureVersion"] == outcome.exposure_version
    assert answer["metadata"]["exposureVersion"] > before["exposureVersion"]


def test_a_share_without_a_targeting_key_is_said(call: Caller, secret: str) -> None:
    for asked in (context(team="internal"), context(team="internal", targetingKey="")):
        answer = json.loads(call.send("POST", ONE, body=asked, token=secret))

        assert call.code == 400
        assert (answer["key"], answer["errorCode"]) == (KEY, "TARGETING_KEY_MISSING")


DEEP = b'{"context": {"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}}"


@pytest.mark.parametrize(
    ("body", "status", "error_code"),
    [
        (b"{", 400, "PARSE_ERROR"),
        (b"\xff\xfe", 400, "PARSE_ERROR"),
        (b'{"context": {"share": NaN}}', 400, "PARSE_ERROR"),
        (b"[]", 400, "PARSE_ERROR"),
        (b'"context"', 400, "PARSE_ERROR"),
        (DEEP, 400, "PARSE_ERROR"),
        (b'{"context": []}', 400, "INVALID_CONTEXT"),
        (b'{"context": "team"}', 400, "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 7}}', 400, "INVALID_CONTEXT"),
        (b" " * (64 * 1024 + 1), 413, "PARSE_ERROR"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_protocols_words(
    call: Caller, secret: str, body: bytes, status: int, error_code: str
) -> None:
    single = json.loads(call.send("POST", ONE, body=body, token=secret))
    assert (call.code, single["errorCode"], single["key"]) == (status, error_code, KEY)
    assert call.headers["Content-Type"] == "application/json"

    bulk = json.loads(call.send("POST", ALL, body=body, token=secret))
    assert (call.code, bulk["errorCode"]) == (status, error_code)
    assert "key" not in bulk


@pytest.mark.parametrize("body", [b"", b"{}", b'{"context": null}', b'{"context": {}}'])
def test_no_context_is_an_empty_one(call: Caller, secret: str, body: bytes) -> None:
    answer = json.loads(call.send("POST", ONE, body=body, token=secret))

    assert (call.code, answer["value"]["arm"]) == (200, "stable")


def test_odd_context_values_never_break_an_answer(call: Caller, secret: str) -> None:
    values: list[Any] = [None, 1, 1.5, True, [], {"a": [1]}, "\x00", "\U0001f600", 2**70]
    for odd in values:
        call.send("POST", ONE, body=context(targetingKey="u", team=odd), token=secret)
        assert call.code == 200, odd


def test_an_unknown_flag_is_404(call: Caller, secret: str) -> None:
    for key in ("support-reply.nope", "nope", "..", "%00"):
        answer = json.loads(call.send("POST", f"{ALL}/{key}", body=context(), token=secret))
        assert (call.code, answer["errorCode"], answer["key"]) == (404, "FLAG_NOT_FOUND", key)


def test_bulk_answers_each_flag_and_304_while_nothing_changed(
    call: Caller, rollout: Rollout, secret: str
) -> None:
    asked = context(targetingKey="u", team="customer")
    body = json.loads(call.send("POST", ALL, body=asked, token=secret))
    assert [flag["key"] for flag in body["flags"]] == [KEY]
    etag = call.headers["ETag"]

    again = call.send("POST", ALL, body=asked, token=secret, headers={"If-None-Match": etag})
    assert (call.code, again, call.headers["ETag"]) == (304, b"", etag)
    call.send("POST", ALL, body=asked, token=secret, headers={"If-None-Match": f"W/{etag}, z"})
    assert call.code == 304

    contain(rollout, "rollback")
    store.refresh()
    call.send("POST", ALL, body=asked, token=secret, headers={"If-None-Match": etag})
    assert call.code == 200


def test_the_bulk_etag_varies_with_the_context(call: Caller, secret: str) -> None:
    exposed = context(targetingKey=exposed_user(call, secret), team="internal")
    call.send("POST", ALL, body=exposed, token=secret)
    etag = call.headers["ETag"]

    other = context(targetingKey="u", team="customer")
    call.send("POST", ALL, body=other, token=secret, headers={"If-None-Match": etag})

    assert call.code == 200
    assert call.headers["ETag"] != etag


def test_one_flag_that_fails_does_not_fail_the_others(call: Caller, secret: str) -> None:
    rollout_at(RolloutState.DRAFT, workflow="claims-intake", slug="claims-2")
    store.refresh()

    body = json.loads(call.send("POST", ALL, body=context(team="internal"), token=secret))

    assert call.code == 200
    found = {flag["key"]: flag.get("errorCode") for flag in body["flags"]}
    assert found == {"claims-intake.draft": None, KEY: "TARGETING_KEY_MISSING"}


def test_tokens(call: Caller, rollout: Rollout, secret: str) -> None:
    asked = context(targetingKey="u")
    for path in (ONE, ALL):
        call.send("POST", path, body=asked)
        assert (call.code, call.headers["WWW-Authenticate"]) == (401, "Bearer")
        call.send("POST", path, body=asked, token="rc_unknown")
        assert call.code == 401
        call.send("POST", path, body=asked, token=token(Scope.INGEST, Scope.READ)[0])
        assert call.code == 403
        call.send("POST", path, body=asked, headers={"X-API-Key": secret})
        assert call.code == 200
    call.send("GET", FLAGS, headers={"X-API-Key": secret})
    assert call.code == 401


def test_a_token_sees_the_flags_of_its_workflows_only(call: Caller, rollout: Rollout) -> None:
    other = rollout_at(RolloutState.DRAFT, workflow="claims-intake", slug="claims-2")
    store.refresh()
    limited, _ = token(Scope.EVALUATE, workflows=(other.workflow,))

    call.send("POST", ONE, body=context(), token=limited)
    assert call.code == 404
    bulk = json.loads(call.send("POST", ALL, body=context(), token=limited))
    assert [flag["key"] for flag in bulk["flags"]] == ["claims-intake.draft"]
    document = json.loads(call.send("GET", FLAGS, token=limited))
    assert list(document["flags"]) == ["claims-intake.draft"]


def test_a_revoked_token_is_refused_once_it_is_looked_up_again(call: Caller, secret: str) -> None:
    call.send("POST", ONE, body=context(), token=secret)
    ApiToken.objects.update(revoked_at=timezone.now())
    auth.forget()

    call.send("POST", ONE, body=context(), token=secret)

    assert call.code == 401


def test_with_postgres_away_known_tokens_go_on_and_new_ones_wait(
    call: Caller, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call.send("POST", ONE, body=context(), token=secret)

    def away(*args: object, **named: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(auth, "token_principal", away)
    monkeypatch.setattr(auth, "FRESH_S", 0.0)

    call.send("POST", ONE, body=context(), token=secret)
    assert call.code == 200
    answer = json.loads(call.send("POST", ONE, body=context(), token="rc_new"))
    assert (call.code, call.headers["Retry-After"]) == (503, "1")
    assert answer["errorCode"] == "GENERAL"


def test_before_a_document_is_loaded_every_door_says_503(call: Caller) -> None:
    secret, _ = token(Scope.EVALUATE)

    for method, path in (("POST", ONE), ("POST", ALL), ("GET", FLAGS)):
        body = call.send(method, path, body=context() if method == "POST" else None, token=secret)
        assert (call.code, call.headers["Retry-After"]) == (503, "1")
        assert body


def test_the_flagd_document_is_canonical_and_has_an_etag(
    call: Caller, rollout: Rollout, secret: str
) -> None:
    body = call.send("GET", FLAGS, token=secret)
    assert call.code == 200
    document = json.loads(body)
    assert document["metadata"]["version"] == str(ExposureVersion.objects.latest("number").number)
    assert document["metadata"]["fractional"].startswith("openfeature-flagd-core ")
    assert list(document["flags"]) == [KEY]
    assert body == json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    call.send("GET", FLAGS, token=secret, headers={"If-None-Match": call.headers["ETag"]})
    assert call.code == 304


def test_a_first_release_without_a_stable_one(call: Caller) -> None:
    rollout_at(RolloutState.LIVE, stable=None)
    store.refresh()
    secret, _ = token(Scope.EVALUATE)

    body = call.send("POST", ONE, body=context(targetingKey="u", team="customer"), token=secret)

    value = json.loads(body)["value"]
    assert (value["release"], value["arm"], value["mode"]) == (None, "stable", "manual")
    assert value["actions"] == {"send_message": "deny"}
