"""Reads of releases: what each changes, which roles it plays, and when it was last seen."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rollout_console.catalog.models import Release, ReleaseChange, Workflow, WorkflowPath
from rollout_console.core.errors import InvalidInput, NotFound
from signals.buckets.selectors import release_ends

# Whatever a task may be dated.
_EVER: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Role:
    """A role that a release plays on a path: `stable` or `candidate`."""

    role: str
    path: str
    path_name: str


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release; `registered` False where it was only seen in tasks or named by a plan.

    `first_at` is when the console first heard of it, `task_at` the minute of its newest task.
    """

    id: int
    workflow: str
    workflow_name: str
    version: str
    registered: bool
    source: dict[str, Any]
    changes: list[ReleaseChange]
    components: list[tuple[str, int]]
    roles: list[Role]
    first_at: datetime
    task_at: datetime | None


def release_rows(
    *,
    workflow_ids: Collection[int] | None,
    before: int | None = None,
    limit: int,
    version: str | None = None,
) -> list[ReleaseRow]:
    """Return releases, the newest first.

    Args:
        workflow_ids: of these workflows, None for all.
        before: only those older than the release with this id.
        version: only those of this version.
    """
    query = Release.objects.select_related("workflow").prefetch_related("changes")
    if workflow_ids is not None:
        query = query.filter(workflow__in=workflow_ids)
    if before is not None:
        query = query.filter(pk__lt=before)
    if version is not None:
        query = query.filter(version=version)
    releases = list(query.order_by("-pk")[:limit])
    roles = _roles(releases)
    newest = _newest(releases)
    return [
        _row(release, roles.get(release.pk, []), newest.get(release.pk)) for release in releases
    ]


def release_row(*, workflow: Workflow, version: str) -> ReleaseRow:
    """Return one release.

    Raises:
        NotFound: the workflow has none of this version.
    """
    found = release_rows(workflow_ids=[workflow.pk], limit=1, version=version)
    if not found:
        raise NotFound(f"There is no release “{version[:100]}” of {workflow.slug}.")
    return found[0]


def pair_of(
    path: WorkflowPath, *, candidate: str | None, stable: str | None
) -> tuple[Release, Release]:
    """Return the two releases to compare on a path; unless named, those that play the roles.

    Raises:
        InvalidInput: one is not the workflow's, is not named and plays no role, or both are one.
    """
    first = _release(path, "candidate", candidate, path.candidate)
    second = _release(path, "stable", stable, path.stable)
    if first == second:
        raise InvalidInput(
            f"Both are {first.version}: a comparison takes two releases.",
            errors=[{"pointer": "/stable", "detail": "Name another release."}],
        )
    return first, second


def _release(path: WorkflowPath, key: str, version: str | None, playing: Release | None) -> Release:
    if not version:
        if playing is None:
            raise InvalidInput(
                f"No release is {key} on {path.slug}, so say which is to be compared.",
                errors=[{"pointer": f"/{key}", "detail": "Name a release."}],
            )
        return playing
    found = None
    if "\x00" not in version:
        found = Release.objects.filter(workflow=path.workflow_id, version=version).first()
    if found is None:
        raise InvalidInput(
            f"“{key}” is a release of the workflow; “{version[:100]}” is none.",
            errors=[{"pointer": f"/{key}", "detail": "Name one that is listed."}],
        )
    return found


def _row(release: Release, roles: list[Role], task_at: datetime | None) -> ReleaseRow:
    changes = sorted(release.changes.all(), key=lambda change: change.position)
    counted = Counter(change.component for change in changes)
    return ReleaseRow(
        id=release.pk,
        workflow=release.workflow.slug,
        workflow_name=release.workflow.name,
        version=release.version,
        registered=release.registered,
        source=release.source or {},
        changes=changes,
        components=list(counted.items()),
        roles=roles,
        first_at=release.created_at,
        task_at=task_at,
    )


def _roles(releases: Sequence[Release]) -> dict[int, list[Role]]:
    found: dict[int, list[Role]] = {}
    paths = WorkflowPath.objects.filter(workflow__in={row.workflow_id for row in releases})
    for path in paths.order_by("slug"):
        for role, release_id in (("candidate", path.candidate_id), ("stable", path.stable_id)):
            if release_id is not None:
                found.setdefault(release_id, []).append(Role(role, path.slug, path.name))
    return found


def _newest(releases: Sequence[Release]) -> dict[int, datetime]:
    """Return the newest task's minute by release id, history included."""
    workflows = {row.workflow_id for row in releases}
    paths = WorkflowPath.objects.filter(workflow__in=workflows).values_list("pk", flat=True)
    found: dict[int, datetime] = {}
    ends = release_ends(path_ids=list(paths), since=_EVER[0], until=_EVER[1]) if releases else {}
    for (_, release_id), (_, newest) in ends.items():
        found[release_id] = max(newest, found.get(release_id, newest))
    return found
