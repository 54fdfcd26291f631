"""Bad input on the way in: the right status, a problem document, and the good items kept."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.api.bare.front import Front
from rollout_console.api.bare.routes import ROUTES
from rollout_console.rollouts.states import RolloutState
from signals.ingest.drain import batches_drain
from signals.ingest.models import IngestBatch, Run
from signals.ingest.services import caches_forget
from tests.bare import Caller, behind
from tests.factories import rollout_at, token
from tests.story import run_item

pytestmark = pytest.mark.django_db

Post = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def post() -> Post:
    rollout_at(RolloutState.LIVE)
    caches_forget()
    secret, _ = token(Scope.INGEST)
    caller = Caller(Front(ROUTES, behind))

    def send(body: Any, kind: str = "application/json", **extra: str) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = caller(
            "POST",
            "/api/v1/runs",
            raw,
            CONTENT_TYPE=kind,
            HTTP_AUTHORIZATION=f"Bearer {secret}",
            REMOTE_ADDR="192.0.2.7",
            **extra,
        )
        return caller.code, json.loads(answer)

    return send


def ago(**spans: float) -> str:
    return (datetime.now(UTC) - timedelta(**spans)).isoformat()


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"id": ""}, "/id"),
        ({"id": "x" * 201}, "/id"),
        ({"id": "a\x00b"}, "/id"),
        ({"id": 7}, "/id"),
        ({"occurred_at": "yesterday"}, "/occurred_at"),
        ({"occurred_at": "2026-11-23T10:00:00"}, "/occurred_at"),
        ({"occurred_at": ago(days=8)}, "/occurred_at"),
        ({"occurred_at": ago(days=-1)}, "/occurred_at"),
        ({"workflow": "nobody-knows"}, "/workflow"),
        ({"path": "nobody-knows"}, "/path"),
        ({"release": "white space"}, "/release"),
        ({"outcome": "splendid"}, "/outcome"),
        ({"latency_ms": -1}, "/latency_ms"),
        ({"latency_ms": "fast"}, "/latency_ms"),
        ({"latency_ms": True}, "/latency_ms"),
        ({"cost_usd": -0.01}, "/cost_usd"),
        ({"cost_usd": 1e7}, "/cost_usd"),
        ({"cost_usd": "NaN"}, "/cost_usd"),
        ({"input_tokens": 1.5}, "/input_tokens"),
        ({"input_tokens": 2**53 + 1}, "/input_tokens"),
        ({"confidence": 1.01}, "/confidence"),
        ({"quality": {"score": 2}}, "/quality/score"),
        ({"risk": "medium"}, "/risk"),
        ({"input_condition": "odd"}, "/input_condition"),
        ({"measures": {"x": "y"}}, "/measures"),
        ({"attributes": {str(n): "v" for n in range(21)}}, "/attributes"),
    ],
)
def test_a_bad_item_is_named_and_the_good_ones_are_kept(
    post: Post, fields: dict[str, Any], pointer: str
) -> None:
    status, body = post([run_item(), run_item(**fields), run_item()])

    assert (status, body["accepted"], body["rejected"]) == (202, 2, 1)
    (error,) = body["errors"]
    assert error["index"] == 1
    assert error["pointer"].startswith(pointer)
    assert len(error["detail"]) > 10
    batches_drain(now=timezone.now())
    assert Run.objects.count() == 2


@pytest.mark.parametrize("item", [None, 7, "run", [], {"id": "only"}])
def test_an_item_that_is_no_run_does_not_spoil_the_batch(post: Post, item: Any) -> None:
    status, body = post([item, run_item()])

    assert (status, body["accepted"], body["rejected"]) == (202, 1, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1, 2",
        b'[{"id": NaN}]',
        b'{"latency_ms": Infinity}',
        b"[] []",
        b"\xff\xfe",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"context": ' * 5_000 + b"1" + b"}" * 5_000,
    ],
)
def test_what_cannot_be_read_is_refused_whole(post: Post, raw: bytes) -> None:
    status, body = post(raw)

    assert status == 400
    assert body["type"].startswith("/problems/")
    assert body["status"] == 400
    assert not IngestBatch.objects.exists()


def test_gzip_that_lies_is_refused(post: Post) -> None:
    packed = gzip.compress(json.dumps([run_item()]).encode())

    for raw in (b"not gzip", packed[:-9], packed + b"garbage"):
        assert post(raw, HTTP_CONTENT_ENCODING="gzip")[0] == 400
    assert not IngestBatch.objects.exists()
    assert post(packed, HTTP_CONTENT_ENCODING="gzip")[0] == 202


def test_a_gzip_bomb_is_too_large(post: Post) -> None:
    bomb = gzip.compress(b" " * (17 * 1024 * 1024))

    assert post(bomb, HTTP_CONTENT_ENCODING="gzip")[0] == 413


def test_more_than_ten_thousand_items_are_too_many(post: Post) -> None:
    status, body = post(b"[" + b",".join([b"{}"] * 10_001) + b"]")

    assert status == 413
    assert body["type"].startswith("/problems/")


def test_another_media_type_is_refused(post: Post) -> None:
    assert post(b"<run/>", kind="application/xml")[0] == 415


def test_ndjson_and_one_object_are_read_too(post: Post) -> None:
    lines = b"\n".join(json.dumps(run_item()).encode() for _ in range(3))

    assert post(lines, kind="application/x-ndjson")[1]["accepted"] == 3
    assert post(run_item())[1]["accepted"] == 1
    assert post([])[0] == 202


def test_a_retry_counts_once(post: Post) -> None:
    item = run_item()
    post([item])
    post([item, item, run_item()])

    batches_drain(now=timezone.now())

    assert Run.objects.count() == 2
    assert sum(batch.duplicates or 0 for batch in IngestBatch.objects.all()) == 2
