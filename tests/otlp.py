"""Recorded OTLP bodies, and a workflow for what they report."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from approvals.authority.principals import SYSTEM
from rollout_console.containment.lifecycle import plan_apply_and_publish
from signals.ingest.drain import batches_drain
from signals.ingest.labels import observations_attribute
from signals.ingest.services import caches_forget
from signals.otlp.judged import evaluations_send
from signals.otlp.sweep import traces_assemble
from tests.factories import people
from tests.plans import plan_document
from tests.servers import ROOT

DATA = ROOT.parent / "shared" / "data" / "otlp"
SETS = ("openai-v2-default", "openai-v2-gzip-content", "sdk-json", "sdk-proto")


@dataclass(frozen=True)
class Recorded:
    """One request as it went over the wire."""

    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def unpacked(self) -> bytes:
        packed = self.headers.get("Content-Encoding") == "gzip"
        return gzip.decompress(self.body) if packed else self.body


def folder(name: str) -> Path:
    found = DATA / name
    if not found.is_dir():
        pytest.skip(f"otlp/{name} is not in ../shared/data")
    return found


def recorded(name: str) -> Iterator[Recorded]:
    """Yield a set's requests in the order they were sent."""
    where = folder(name)
    for line in (where / "index.jsonl").read_text().splitlines():
        told = json.loads(line)
        headers = {"Content-Type": told["content_type"], "User-Agent": told["user_agent"]}
        if told["content_encoding"]:
            headers["Content-Encoding"] = told["content_encoding"]
        yield Recorded(told["path"], (where / told["file"]).read_bytes(), headers)


def workflow_made(slug: str = "support", *paths: str) -> None:
    """Make a workflow with the given paths, `refunds` unless said."""
    people()
    document: dict[str, Any] = plan_document(slug)
    (path,) = document["workflow"]["paths"]
    document["workflow"]["paths"] = [
        {**path, "slug": name, "name": name} for name in paths or ("refunds",)
    ]
    document["rollout"]["paths"] = list(paths or ("refunds",))
    for guard in (*document["rollout"]["criteria"], *document["rollout"]["triggers"]):
        guard["path"] = (paths or ("refunds",))[0]
    plan_apply_and_publish(document=document, text="", principal=SYSTEM, now=timezone.now())
    caches_forget()


def drain(now: datetime | None = None) -> None:
    """Assemble and drain as the watch does once every trace has been quiet long enough."""
    quiet = (now or timezone.now()) + timedelta(seconds=settings.OTLP_ORPHAN_S + 1)
    traces_assemble(now=quiet)
    evaluations_send(now=quiet)
    batches_drain(now=quiet)
    observations_attribute(now=quiet)


# --- Requests made up for one test, in OTLP's JSON ---

RESOURCE: dict[str, Any] = {
    "service.name": "support-assistant",
    "rollout.workflow": "support",
    "rollout.path": "refunds",
    "rollout.release": "2026.11.2",
}


def told(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [told(one) for one in value]}}
    return {"stringValue": value}


def told_attributes(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": told(value)} for key, value in attributes.items()]


def span_told(
    span_id: int,
    parent: int | None = None,
    *,
    trace: int = 1,
    at_ms: float = 0,
    ms: float = 100,
    name: str = "work",
    failed: bool = False,
    events: list[dict[str, Any]] | None = None,
    began: datetime | None = None,
    **attributes: Any,
) -> dict[str, Any]:
    """Return a span of a minute ago; `gen_ai__request__model` stands for `gen_ai.request.model`."""
    start = began or timezone.now() - timedelta(minutes=1)
    start_ns = int(start.timestamp() * 1e6) * 1000 + int(at_ms * 1e6)
    return {
        "traceId": f"{trace:032x}",
        "spanId": f"{span_id:016x}",
        **({} if parent is None else {"parentSpanId": f"{parent:016x}"}),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + int(ms * 1e6)),
        "attributes": told_attributes(
            {key.replace("__", "."): value for key, value in attributes.items()}
        ),
        "status": {"code": 2} if failed else {},
        "events": events or [],
    }


def traces_told(
    *spans: dict[str, Any], scope: str = "app", resource: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a request with spans of one resource and scope."""
    of = RESOURCE if resource is None else resource
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": told_attributes(of)},
                "scopeSpans": [{"scope": {"name": scope}, "spans": list(spans)}],
            }
        ]
    }


def model_call(span_id: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """Return the span of a chat that took 100 tokens and answered 10."""
    return span_told(
        span_id,
        parent,
        **{
            "gen_ai__operation__name": "chat",
            "gen_ai__request__model": "gpt-4o",
            "gen_ai__usage__input_tokens": 100,
            "gen_ai__usage__output_tokens": 10,
            **more,
        },
    )
