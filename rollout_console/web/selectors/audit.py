from dataclasses import dataclass
from datetime import datetime
from typing import Final

from approvals.authority.principals import Principal
from rollout_console.audit.actions import ACTIONS
from rollout_console.audit.models import AuditEntry
from rollout_console.containment.policy import REASONS
from rollout_console.web.selectors.shell import readable_workflows
from rollout_console.web.words import Shown, action_shown

PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class EntryRow:
    id: int
    at: datetime
    shown: Shown
    actor: str
    workflow: str
    subject_type: str
    subject: str
    reason: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of entries; `older` is the id to go on from, None at the end."""

    rows: list[EntryRow]
    older: int | None
    workflows: list[tuple[str, str]]
    actions: list[tuple[str, str]]


def audit_page(
    *, principal: Principal, workflow: str, actor: str, action: str, before: int | None
) -> AuditPage:
    """Return the entries of workflows that `principal` may read, and of their own log-ins."""
    workflows = readable_workflows(principal)
    slugs = {each.slug: each.name for each in workflows.values()}
    entries = AuditEntry.objects.filter(workflow__in=list(slugs)) | AuditEntry.objects.filter(
        workflow="", actor=principal.name
    )
    if workflow:
        entries = entries.filter(workflow=workflow)
    if actor:
        entries = entries.filter(actor__icontains=actor)
    if action:
        entries = entries.filter(action=action)
    if before is not None:
        entries = entries.filter(pk__lt=before)
    found = list(entries.order_by("-pk")[: PAGE + 1])
    rows = [_row(entry) for entry in found[:PAGE]]
    return AuditPage(
        rows=rows,
        older=rows[-1].id if len(found) > PAGE else None,
        workflows=sorted(slugs.items(), key=lambda item: item[1]),
        actions=[(name, action_shown(name).word) for name in sorted(ACTIONS)],
    )


def _row(entry: AuditEntry) -> EntryRow:
    code = entry.reason.get("code", "")
    parts = [REASONS.get(code, code), entry.reason.get("note", "")]
    return EntryRow(
        id=entry.pk,
        at=entry.at,
        shown=action_shown(entry.action),
        actor=entry.actor,
        workflow=entry.workflow,
        subject_type=entry.subject_type,
        subject=entry.subject,
        reason=": ".join(part for part in parts if part),
        hash=entry.entry_hash[:12],
    )
