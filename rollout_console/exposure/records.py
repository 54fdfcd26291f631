"""Who saw what, and when: stored exposure versions, cut to what the reader may see.

Everywhere `workflows` are the slugs that the reader may read, None for all of them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.exposure.evaluate import FRACTIONAL, Failure, Snapshot
from rollout_console.exposure.history import (
    Change,
    PathServed,
    document_changes,
    document_cut,
    paths_served,
)
from rollout_console.exposure.models import ExposureVersion

Readable = Collection[str] | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version as one reader sees it: cause and actor only where the cause is theirs to read."""

    number: int
    at: datetime
    cause: str | None
    actor: str | None
    digest: str
    workflows: list[str]


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version with what it changed against the one before, and its document."""

    row: VersionRow
    changes: list[Change]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PathThen:
    """What a path served at a time, and the version that last changed its workflow."""

    served: PathServed
    since: VersionRow | None


@dataclass(frozen=True, slots=True)
class ExposureThen:
    version: VersionRow
    fractional: str
    paths: list[PathThen]


@dataclass(frozen=True, slots=True)
class ContextThen:
    """What one context got. `failure` stands where there was no decision to give.

    `fractional` is the generation of bucketing that the version was served with; this answer is
    computed with `computed_with`, and where they differ a share may have been drawn otherwise.
    """

    version: VersionRow
    since: VersionRow | None
    key: str
    variant: str | None
    value: dict[str, Any] | None
    metadata: dict[str, Any]
    failure: Failure | None
    fractional: str
    computed_with: str

    @property
    def same_generation(self) -> bool:
        return self.fractional == self.computed_with


def versions_readable(
    *,
    workflows: Readable,
    workflow: str = "",
    until: datetime | None = None,
    before: int | None = None,
) -> QuerySet[ExposureVersion]:
    """Return versions, the newest first, without documents.

    Those that touch none of the reader's workflows are left out.

    Args:
        workflow: only those that touch this one.
        until: only those in force by then.
        before: only those with a lower number.
    """
    found = ExposureVersion.objects.defer("document").order_by("-number")
    if workflows is not None:
        found = found.filter(workflows__overlap=list(workflows))
    if workflow:
        found = found.filter(workflows__contains=[workflow])
    if until is not None:
        found = found.filter(at__lte=until)
    if before is not None:
        found = found.filter(number__lt=before)
    return found


def version_row(version: ExposureVersion, workflows: Readable) -> VersionRow:
    mine = workflows is None or version.workflow in workflows
    return VersionRow(
        number=version.number,
        at=version.at,
        cause=version.cause if mine else None,
        actor=version.actor if mine else None,
        digest=version.digest,
        workflows=[slug for slug in version.workflows if workflows is None or slug in workflows],
    )


def version_records(
    versions: Sequence[ExposureVersion], *, workflows: Readable
) -> list[VersionRecord]:
    """Return versions with their changes; reads the documents of all of them in one query."""
    numbers = {version.number for version in versions}
    wanted = numbers | {number - 1 for number in numbers}
    documents = {
        number: document_cut(document, workflows)
        for number, document in ExposureVersion.objects.filter(number__in=wanted).values_list(
            "number", "document"
        )
    }
    return [
        VersionRecord(
            row=version_row(version, workflows),
            changes=document_changes(documents.get(version.number - 1), documents[version.number]),
            document=documents[version.number],
        )
        for version in versions
    ]


def version_record(*, number: int, workflows: Readable) -> VersionRecord:
    """Return one version.

    Raises:
        NotFound: there is none, or it touches nothing that the reader may read.
    """
    found = versions_readable(workflows=workflows).filter(number=number).first()
    if found is None:
        raise NotFound(f"There is no exposure version {number} of your workflows.")
    return version_records([found], workflows=workflows)[0]


def exposure_at(*, time: datetime, workflows: Readable, now: datetime) -> ExposureThen:
    """Return what every readable path served at `time`.

    Raises:
        InvalidInput: it lies in the future.
        NotFound: nothing was served yet.
    """
    version = _in_force(time, now=now)
    document = document_cut(version.document, workflows)
    served = paths_served(document)
    since = {slug: _last_change(version, slug, workflows) for slug in _slugs(served)}
    return ExposureThen(
        version=version_row(version, workflows),
        fractional=document["metadata"]["fractional"],
        paths=[PathThen(path, since[path.workflow]) for path in served],
    )


def context_at(
    *,
    time: datetime,
    workflow: str,
    path: str,
    context: Mapping[str, Any],
    workflows: Readable,
    now: datetime,
) -> ContextThen:
    """Return what a context got on a path at `time`, decided again by the document of that time.

    Raises:
        InvalidInput: the time lies in the future, or `targetingKey` is not text.
        NotFound: the path is not the reader's to read, or was not served then.
    """
    if workflows is not None and workflow not in workflows:
        raise NotFound(f"There is no workflow “{workflow}”.")
    attributes = dict(context)
    targeting_key = attributes.pop("targetingKey", None)
    if targeting_key is not None and not isinstance(targeting_key, str):
        raise InvalidInput(
            "“targetingKey” must be text: it was compared as text.",
            errors=[{"pointer": "/context/targetingKey", "detail": "Write it in quotes."}],
        )
    version = _in_force(time, now=now)
    key = f"{workflow}.{path}"
    flag = version.document["flags"].get(key)
    if flag is None:
        raise NotFound(f"Exposure version {version.number} served no path “{key}”.")
    document = {**version.document, "flags": {key: flag}}
    snapshot = Snapshot(number=version.number, document=document, workflow_ids={})
    decided = snapshot.decide(key, targeting_key=targeting_key or None, attributes=attributes)
    failure = decided if isinstance(decided, Failure) else None
    body = {} if isinstance(decided, Failure) else json.loads(decided.body)
    return ContextThen(
        version=version_row(version, workflows),
        since=_last_change(version, workflow, workflows),
        key=key,
        variant=body.get("variant"),
        value=body.get("value"),
        metadata=body.get("metadata", {}),
        failure=failure,
        fractional=document["metadata"]["fractional"],
        computed_with=FRACTIONAL,
    )


def _in_force(time: datetime, *, now: datetime) -> ExposureVersion:
    if time > now:
        raise InvalidInput(
            "This time lies in the future: what is served then is not decided yet.",
            errors=[{"pointer": "/time", "detail": "Name a time that has passed."}],
        )
    found = ExposureVersion.objects.filter(at__lte=time).order_by("-number").first()
    if found is None:
        raise NotFound("Nothing was served by this console at that time yet.")
    return found


def _last_change(version: ExposureVersion, workflow: str, workflows: Readable) -> VersionRow | None:
    """Return the version, this one or earlier, that last changed what a workflow serves."""
    found = versions_readable(
        workflows=workflows, workflow=workflow, before=version.number + 1
    ).first()
    return None if found is None else version_row(found, workflows)


def _slugs(served: Sequence[PathServed]) -> list[str]:
    return list(dict.fromkeys(path.workflow for path in served))
