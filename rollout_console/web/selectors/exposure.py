"""Exposure versions as pages show them: slugs by their names, changes path by path."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Segment, WorkflowPath
from rollout_console.exposure.history import Change, Served
from rollout_console.exposure.records import (
    ContextThen,
    ExposureThen,
    PathThen,
    Readable,
    VersionRecord,
    VersionRow,
    exposure_at,
    version_record,
    version_records,
    versions_readable,
)
from rollout_console.web.selectors.shell import readable_ids, readable_workflows
from rollout_console.web.words import share_text

PAGE: Final = 25
# A row of the list shows this many changes; the version's own page shows them all.
CHANGES_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class PathChanges:
    key: str
    sentences: list[str]


@dataclass(frozen=True, slots=True)
class VersionView:
    row: VersionRow
    paths: list[PathChanges]
    more: int


@dataclass(frozen=True, slots=True)
class VersionsPage:
    """A page of versions; `older` is the number to go on from, None at the end."""

    rows: list[VersionView]
    older: int | None
    workflows: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ServedView:
    who: str
    share: str
    release: str
    mode: str
    more: str


@dataclass(frozen=True, slots=True)
class PathView:
    """A path at one time: each exposed segment, then everybody else."""

    key: str
    rollout: str | None
    served: list[ServedView]
    since: VersionRow | None


@dataclass(frozen=True, slots=True)
class ThenView:
    version: VersionRow
    fractional: str
    paths: list[PathView]


def readable_slugs(principal: Principal) -> Readable:
    """Return the slugs of the workflows that `principal` may read, None for all of them."""
    if readable_ids(principal) is None:
        return None
    return frozenset(workflow.slug for workflow in readable_workflows(principal).values())


def versions_page(
    *, principal: Principal, workflow: str, until: datetime | None, before: int | None
) -> VersionsPage:
    """Return readable versions, the newest first, with what each changed."""
    readable = readable_slugs(principal)
    found = list(
        versions_readable(workflows=readable, workflow=workflow, until=until, before=before)[
            : PAGE + 1
        ]
    )
    records = version_records(found[:PAGE], workflows=readable)
    names = _segment_names(readable)
    shown = readable_workflows(principal).values()
    return VersionsPage(
        rows=[_version(record, names, most=CHANGES_MAX) for record in records],
        older=found[PAGE - 1].number if len(found) > PAGE else None,
        workflows=sorted(((each.slug, each.name) for each in shown), key=lambda pair: pair[1]),
    )


def version_view(*, principal: Principal, number: int) -> VersionView:
    """Return one version with all that it changed."""
    readable = readable_slugs(principal)
    record = version_record(number=number, workflows=readable)
    return _version(record, _segment_names(readable), most=None)


def then_view(*, principal: Principal, time: datetime, now: datetime) -> ThenView:
    """Return what every readable path served at a time."""
    readable = readable_slugs(principal)
    then: ExposureThen = exposure_at(time=time, workflows=readable, now=now)
    names = _segment_names(readable)
    return ThenView(
        version=then.version,
        fractional=then.fractional,
        paths=[_path(each, names) for each in then.paths],
    )


def path_choices(principal: Principal) -> list[tuple[str, str]]:
    """Return the readable paths as (flag key, name)."""
    paths = WorkflowPath.objects.select_related("workflow").order_by("workflow__name", "name")
    ids = readable_ids(principal)
    if ids is not None:
        paths = paths.filter(workflow__in=ids)
    return [(path.flag_key, f"{path.workflow.name}: {path.name}") for path in paths]


def context_sentence(then: ContextThen, *, principal: Principal) -> str:
    """Say what a context got, and why, in one sentence."""
    if then.failure is not None:
        return f"No decision: {then.failure.detail}"
    assert then.value is not None
    release = then.value["release"] or "no release"
    slug = then.value["segment"]
    names = _segment_names(readable_slugs(principal))
    segment = names.get((then.metadata["workflow"], slug or ""), slug)
    served = f"{release} in mode {then.value['mode'].replace('_', ' ')}"
    if then.value["arm"] == "candidate":
        return f"Exposed as part of “{segment}”: {served}."
    if segment:
        return f"Not exposed: in “{segment}”, but outside its share; {served}."
    return f"Not exposed: in no exposed segment; {served}."


def _version(
    record: VersionRecord, names: dict[tuple[str, str], str], *, most: int | None
) -> VersionView:
    shown = record.changes if most is None else record.changes[:most]
    paths: dict[str, list[str]] = defaultdict(list)
    for change in shown:
        paths[f"{change.workflow}.{change.path}"].append(_sentence(change, names))
    return VersionView(
        row=record.row,
        paths=[PathChanges(key, sentences) for key, sentences in paths.items()],
        more=len(record.changes) - len(shown),
    )


def _sentence(change: Change, names: dict[tuple[str, str], str]) -> str:
    """Return a change's sentence with the segment's name in the place of its slug."""
    sentence = change.sentence
    if change.segment is None:
        return sentence[0].upper() + sentence[1:]
    name = names.get((change.workflow, change.segment), change.segment)
    return f"{name}{sentence.removeprefix(change.segment)}"


def _path(then: PathThen, names: dict[tuple[str, str], str]) -> PathView:
    served = then.served
    return PathView(
        key=served.key,
        rollout=served.rollout,
        served=[
            _served(each, names.get((served.workflow, each.segment or ""), each.segment))
            for each in [*served.exposed, *served.apart, served.others]
        ],
        since=then.since,
    )


def _served(served: Served, name: str | None) -> ServedView:
    told = [f"{route}: {state}" for route, state in sorted(served.actions.items())]
    if served.route:
        told.append(f"route {served.route}")
    told += [f"{key} {value}" for key, value in sorted(served.settings.items())]
    who = name or "Everybody else"
    if served.segment is not None and served.share is None:
        who = f"{who}, not exposed"
    if served.held:
        who = f"{who}, if in a restricted segment"
    return ServedView(
        who=who,
        share="" if served.share is None else share_text(served.share),
        release=served.release or "no release",
        mode=served.mode.replace("_", " "),
        more=", ".join(told),
    )


def _segment_names(readable: Readable) -> dict[tuple[str, str], str]:
    rows: Iterable[tuple[str, str, str]] = Segment.objects.values_list(
        "workflow__slug", "slug", "name"
    )
    return {
        (workflow, slug): name
        for workflow, slug, name in rows
        if readable is None or workflow in readable
    }
