"""Observations for tests, and the road they take: over the bare route, then a round of work."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.api.bare.front import Front
from rollout_console.api.bare.routes import ROUTES
from signals.buckets.keys import COUNTS
from signals.buckets.services import buckets_fold
from signals.ingest.drain import batches_drain
from signals.ingest.labels import observations_attribute
from signals.ingest.services import caches_forget
from tests.bare import Caller, behind
from tests.factories import token


def observation(run: dict[str, Any], kind: str = "evaluation", **fields: Any) -> dict[str, Any]:
    """Return a good observation about `run`, an evaluation that passed unless said otherwise."""
    says = {} if kind != "evaluation" or fields else {"passed": True}
    return {
        "id": uuid.uuid4().hex,
        "workflow": run["workflow"],
        "run_id": run["id"],
        "run_occurred_at": run["occurred_at"],
        "occurred_at": datetime.now(UTC).isoformat(),
        "kind": kind,
        **says,
        **fields,
    }


class Reports:
    """Posts runs and observations as one token's workflow does."""

    def __init__(self) -> None:
        caches_forget()
        self.secret, _ = token(Scope.INGEST, Scope.READ)
        self.caller = Caller(Front(ROUTES, behind))

    def post(
        self, noun: str, body: Any, kind: str = "application/json", **extra: str
    ) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.caller(
            "POST",
            f"/api/v1/{noun}",
            raw,
            CONTENT_TYPE=kind,
            HTTP_AUTHORIZATION=f"Bearer {self.secret}",
            REMOTE_ADDR="192.0.2.7",
            **extra,
        )
        return self.caller.code, json.loads(answer)

    def runs(self, *items: dict[str, Any]) -> str:
        return self._accepted("runs", items)

    def observations(self, *items: dict[str, Any]) -> str:
        return self._accepted("observations", items)

    def batch(self, batch_id: str) -> dict[str, Any]:
        answer = self.caller.send("GET", f"/api/v1/ingest/batches/{batch_id}", token=self.secret)
        found: dict[str, Any] = json.loads(answer)
        return found

    def _accepted(self, noun: str, items: tuple[dict[str, Any], ...]) -> str:
        status, body = self.post(noun, list(items))
        assert (status, body["accepted"], body["errors"]) == (202, len(items), []), body
        return str(body["batch_id"])


def work(now: datetime | None = None) -> None:
    """Drain, attribute and fold, as a round of work does."""
    at = now or timezone.now()
    batches_drain(now=at)
    observations_attribute(now=at)
    buckets_fold(now=at)


def counted(table: str = "arrival_ledger") -> dict[str, int]:
    """Return every whole count of a ledger or bucket table that is not 0."""
    sums = ", ".join(f"sum({name})" for name in COUNTS)
    with connection.cursor() as cursor:
        cursor.execute(f"select {sums} from {table}")  # noqa: S608  # names of our own
        found = cursor.fetchone()
    return {name: int(n) for name, n in zip(COUNTS, found, strict=True) if n}
