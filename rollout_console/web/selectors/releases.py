"""What the pages of releases show."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, who_can
from rollout_console.catalog.models import Workflow
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.release_rows import ReleaseRow, release_row, release_rows
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.selectors.changes import ChangeView, change_views
from rollout_console.web.selectors.shell import readable_workflows
from rollout_console.web.words import STATES, Shown

PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class ReleaseItem:
    """A release in a list. `link` is its source's address where a browser may open it."""

    row: ReleaseRow
    roles: list[str]
    source: str
    link: str


@dataclass(frozen=True, slots=True)
class ReleasesView:
    workflows: list[Workflow]
    chosen: Workflow | None
    items: list[ReleaseItem]
    following: int | None
    may_new: bool


@dataclass(frozen=True, slots=True)
class ReleaseView:
    workflow: Workflow
    item: ReleaseItem
    changes: list[ChangeView]
    rollouts: list[tuple[str, Shown]]
    compare_path: str
    may: bool
    who: list[str]


def releases_view(
    *, principal: Principal, workflow: str, before: int | None = None
) -> ReleasesView:
    """Return the releases that a person may read, the newest first; of one workflow if named."""
    workflows = readable_workflows(principal)
    chosen = next((each for each in workflows.values() if each.slug == workflow), None)
    ids = list(workflows) if chosen is None else [chosen.pk]
    rows = release_rows(workflow_ids=ids, before=before, limit=PAGE + 1)
    return ReleasesView(
        workflows=sorted(workflows.values(), key=lambda each: (each.name, each.slug)),
        chosen=chosen,
        items=[_item(row) for row in rows[:PAGE]],
        following=rows[PAGE - 1].id if len(rows) > PAGE else None,
        may_new=chosen is not None and principal.may(Verb.RELEASE_REGISTER, chosen.pk),
    )


def release_view(workflow: Workflow, version: str, *, principal: Principal) -> ReleaseView:
    """Return one release with its changes as diffs.

    Raises:
        NotFound: the workflow has none of this version.
    """
    row = release_row(workflow=workflow, version=version)
    rollouts = Rollout.objects.filter(workflow=workflow, candidate=row.id).order_by("-pk")
    may = principal.may(Verb.RELEASE_REGISTER, workflow.pk)
    candidate_on = [role.path for role in row.roles if role.role == "candidate"]
    return ReleaseView(
        workflow=workflow,
        item=_item(row),
        changes=change_views(row.changes),
        rollouts=[
            (slug, STATES[RolloutState(state)])
            for slug, state in rollouts.values_list("slug", "state")[:20]
        ],
        compare_path=next(iter(candidate_on), ""),
        may=may,
        who=[] if may else who_can(Verb.RELEASE_REGISTER, workflow),
    )


def _item(row: ReleaseRow) -> ReleaseItem:
    roles = [f"{role.role} on {role.path_name}" for role in row.roles]
    source = row.source
    parts = (source.get("repository", ""), _commit(source.get("commit", "")))
    told = " at ".join(part for part in parts if part)
    link = source.get("url", "")
    return ReleaseItem(row, roles, told or link, link if _opens(link) else "")


def _commit(commit: str) -> str:
    return commit[:12] if len(commit) == 40 else commit


def _opens(link: str) -> bool:
    """Return whether it is the address of a page; no script or file may hide in a link."""
    try:
        return urlsplit(link).scheme in ("http", "https") and bool(urlsplit(link).netloc)
    except ValueError:
        return False
