"""A replay's writing: the workflow it needs, its batches, and waiting until they count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from approvals.authority.matrix import Role
from approvals.authority.models import Membership
from approvals.authority.principals import Principal
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Person, Workflow, WorkflowPath
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.core.errors import InvalidInput
from rollout_console.core.heartbeats import KEEPER, WORKER, heartbeat_age_s
from rollout_console.replay.gauges import GaugePoints
from rollout_console.replay.items import GAUGE, RUN, Item, Place, Refusal
from rollout_console.replay.mapping import Mapping
from rollout_console.replay.observations import observations_store
from signals.buckets.services import buckets_fold
from signals.ingest.drain import backfill_drain, batches_drain
from signals.ingest.framing import JSON, MAX_ITEMS, MAX_UNPACKED
from signals.ingest.labels import observations_attribute
from signals.ingest.models import BatchState, IngestBatch
from signals.ingest.runs import ItemError
from signals.ingest.services import BacklogFull, batch_store, caches_forget

REPLAY: Final = Principal(kind="system", name="replay", id=0)
# A heartbeat younger than this says that somebody drains beside us.
BESIDE_S: Final = 5.0
LOOK_EVERY_S: Final = 0.1
# Of our own batches not yet in charts, so that a replay never fills the queue.
OPEN_MAX: Final = 20

Wait = Callable[[float], object]


def workflow_ensure(*, mapping: Mapping, slug: str, owner: str | None, now: datetime) -> list[str]:
    """Make the workflow and the paths that a mapping needs; return what was made, in words.

    A workflow that is there keeps its plan: paths it lacks are added as discovery adds them,
    exposed to nobody.

    Raises:
        InvalidInput: there is nobody who could own it.
        DomainError: its plan does not fit.
    """
    paths = mapping.workflow["paths"]
    workflow = Workflow.objects.filter(slug=slug).first()
    if workflow is not None:
        made = _paths_add(workflow, paths, now=now)
        caches_forget()
        return made
    person, deputy = _responsible(owner, slug=slug)
    name = mapping.workflow["name"] if slug == mapping.workflow["slug"] else slug
    segments = [{**each, "owner": person} for each in mapping.workflow["segments"]]
    document: dict[str, Any] = {
        "version": 1,
        "workflow": {
            "slug": slug,
            "name": name,
            "owner": person,
            "deputy": deputy,
            "discovery": mapping.workflow["discovery"],
            "paths": paths,
            "segments": segments,
        },
    }
    plan_apply_and_publish(document=document, text="", principal=REPLAY, now=now)
    caches_forget()
    return [f"workflow {slug}, owned by {person}"]


@transaction.atomic
def _paths_add(workflow: Workflow, paths: list[dict[str, Any]], *, now: datetime) -> list[str]:
    there = set(workflow.paths.values_list("slug", flat=True))
    missing = [path for path in paths if path["slug"] not in there]
    WorkflowPath.objects.bulk_create(
        [WorkflowPath(workflow=workflow, **path) for path in missing], ignore_conflicts=True
    )
    if missing:
        audit.append(
            "paths.added",
            actor=REPLAY,
            at=now,
            workflow=workflow.slug,
            subject_type="workflow",
            subject=workflow.slug,
            data={"paths": [path["slug"] for path in missing]},
        )
    return [f"path {path['slug']}" for path in missing]


def _responsible(owner: str | None, *, slug: str) -> tuple[str, str]:
    """Return the names of owner and deputy: as said, else who owns every workflow."""
    names = {
        role: list(
            Membership.objects.filter(workflow=None, role=role, person__is_active=True)
            .order_by("person_id")
            .values_list("person__username", flat=True)
        )
        for role in (Role.OWNER, Role.DEPUTY)
    }
    if owner is None:
        if not names[Role.OWNER]:
            raise InvalidInput(
                f"The workflow “{slug}” is new and needs an owner, and nobody owns every workflow "
                "here: name a person with --owner NAME, or make one first with "
                "`manage.py user create NAME --role owner --password-stdin`."
            )
        owner = names[Role.OWNER][0]
    elif not Person.objects.filter(username=owner, is_active=True).exists():
        raise InvalidInput(f"There is no person “{owner}” to own “{slug}”.")
    others = [name for name in (*names[Role.DEPUTY], *names[Role.OWNER]) if name != owner]
    return owner, others[0] if others else owner


@dataclass(slots=True)
class Stored:
    """What has become of a replay's items so far."""

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    failed: int = 0


@dataclass(slots=True)
class Intake:
    """Puts items into batches and these through the same door as the API's.

    End with `flush` and `settle`.

    Live ones are drained by whoever runs beside, by itself only where nobody does; history is
    always drained here, so that it keeps no worker busy.
    """

    backfill: bool
    gauges: GaugePoints
    reject: Callable[[Refusal], None]
    wait: Wait
    stored: Stored = field(default_factory=Stored)
    _texts: dict[str, list[bytes]] = field(default_factory=dict)
    _places: dict[str, list[Place]] = field(default_factory=dict)
    _bytes: dict[str, int] = field(default_factory=dict)
    _open: set[UUID] = field(default_factory=set)
    _gauges: list[Item] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Return how many items are in hand, not stored yet."""
        return len(self._gauges) + sum(map(len, self._texts.values()))

    def add(self, item: Item) -> None:
        """Take one item; a full batch is stored."""
        if item.kind == GAUGE:
            self._gauges.append(item)
            if len(self._gauges) == MAX_ITEMS:
                self._flush_gauges()
            return
        text = item.text()
        if len(text) + 2 > MAX_UNPACKED:
            self.refuse(Refusal(item.place, "", f"It is larger than {MAX_UNPACKED:,} bytes."))
            return
        texts = self._texts.setdefault(item.kind, [])
        # One byte a comma, two the brackets.
        if len(texts) == MAX_ITEMS or self._bytes.get(item.kind, 2) + len(text) + 1 > MAX_UNPACKED:
            self._flush_kind(item.kind)
            texts = self._texts.setdefault(item.kind, [])
        texts.append(text)
        self._places.setdefault(item.kind, []).append(item.place)
        self._bytes[item.kind] = self._bytes.get(item.kind, 2) + len(text) + 1

    def refuse(self, refusal: Refusal) -> None:
        self.stored.rejected += 1
        self.reject(refusal)

    def flush(self) -> None:
        """Store what is in hand."""
        # Runs first: an observation should find its own.
        for kind in sorted(self._texts, key=lambda kind: kind != RUN):
            self._flush_kind(kind)
        self._flush_gauges()

    def settle(self, *, open_most: int = 0) -> None:
        """Wait until all but so many of the stored batches stand in charts, helping along."""
        while len(self._open) > open_most:
            moved = self._drain() + buckets_fold(now=timezone.now())
            self._close()
            if len(self._open) > open_most and not moved:
                self.wait(LOOK_EVERY_S)
        if open_most == 0:
            # What observations say is counted with their runs once both are stored.
            observations_attribute(now=timezone.now())
            buckets_fold(now=timezone.now())

    def _flush_kind(self, kind: str) -> None:
        texts, places = self._texts.pop(kind, []), self._places.pop(kind, [])
        self._bytes.pop(kind, None)
        if not texts:
            return
        errors = self._batch(texts, kind=kind)
        self.stored.accepted += len(texts) - len(errors)
        for error in errors:
            self.refuse(Refusal(places[error.index], error.pointer, error.detail))

    def _flush_gauges(self) -> None:
        items, self._gauges = self._gauges, []
        if not items:
            return
        made = self.gauges.store(items, backfill=self.backfill, now=timezone.now())
        self.stored.accepted += made.accepted
        self.stored.duplicates += made.duplicates
        for refusal in made.refused:
            self.refuse(refusal)

    def _batch(self, texts: Sequence[bytes], *, kind: str) -> list[ItemError]:
        """Store one batch durably; return what is wrong with its items."""
        store = batch_store if kind == RUN else observations_store
        body = b"[" + b",".join(texts) + b"]"
        while True:
            try:
                receipt = store(
                    body=body,
                    content_type=JSON,
                    content_encoding=None,
                    principal=REPLAY,
                    now=timezone.now(),
                    any_age=True,
                    backfill=self.backfill,
                )
            except BacklogFull:
                if not self._drain():
                    self.wait(1.0)
            else:
                break
        if receipt.accepted:
            self._open.add(receipt.batch_id)
        self._drain()
        if len(self._open) >= OPEN_MAX:
            self.settle(open_most=OPEN_MAX // 2)
        return receipt.errors

    def _drain(self) -> int:
        now = timezone.now()
        if self.backfill:
            return backfill_drain(now=now)
        ages = [heartbeat_age_s(name=name, now=now) for name in (WORKER, KEEPER)]
        beside = any(age is not None and age < BESIDE_S for age in ages)
        return 0 if beside else batches_drain(now=now)

    def _close(self) -> None:
        """Let go of the batches that are folded, or that nobody could drain."""
        ended = (
            IngestBatch.objects.filter(id__in=self._open)
            .filter(Q(folded_at__isnull=False) | Q(state=BatchState.FAILED))
            .values_list("id", "state", "n_accepted", "duplicates")
        )
        for batch_id, state, accepted, duplicates in ended:
            self._open.discard(batch_id)
            if state == BatchState.FAILED:
                self.stored.failed += accepted
            self.stored.duplicates += duplicates or 0


def replay_record(*, workflow: str, data: dict[str, Any], now: datetime) -> None:
    """Note in the audit that a trace was put in, and what came of it."""
    audit.append(
        "trace.replayed",
        actor=REPLAY,
        at=now,
        workflow=workflow,
        subject_type="workflow",
        subject=workflow,
        data=data,
    )
