"""Plans that people are writing. A draft moves nothing, so nothing of it is audited."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import NotAllowed, Principal, require
from rollout_console.catalog.models import Person, Workflow, WorkflowPath
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.errors import StepRefused
from rollout_console.rollouts.models import PlanDraft, Rollout
from rollout_console.rollouts.plan_edit import text_edited
from rollout_console.rollouts.plan_yaml import BYTES_MAX, PlanUnreadable, yaml_load
from rollout_console.rollouts.selectors import plan_latest, plan_yaml_of, rollout_slug_free
from rollout_console.rollouts.states import FINAL, RolloutState

NEW_TEXT = "version: 1\nworkflow: {}\n"


class DraftMoved(DomainError):
    """Another page saved the draft since this one was shown; nothing of it was overwritten."""

    code = "plan-draft-moved"
    title = "This draft changed in another window"


class DraftWaits(DomainError):
    """The person has a draft of this plan that something else would overwrite."""

    code = "plan-draft-waits"
    title = "A draft of yours waits"


class DraftTooLarge(DomainError):
    code = "plan-draft-too-large"
    title = "The plan is too large"
    status = 413


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan being written; `revision` 0 is the plan in force, nothing typed yet.

    `document` is what `text` says: its order is a person's, which the database would not keep.
    """

    workflow: str
    base: int
    document: Any
    text: str
    typed: str
    revision: int
    saved_at: datetime | None
    # Comments that the last save could not keep.
    lost: tuple[str, ...] = ()


def draft_permit(principal: Principal, workflow: Workflow | None) -> int:
    """Return the id of the person who may write this plan.

    Raises:
        NotAllowed: not theirs to edit, or nobody's token.
    """
    if workflow is not None:
        require(principal, Verb.PLAN_EDIT, workflow)
    elif not principal.may(Verb.PLAN_EDIT, None):
        raise NotAllowed("A new workflow is added by an owner or deputy of every workflow.")
    if principal.person_id is None:
        raise NotAllowed("A draft is a person's.")
    return principal.person_id


def draft_get(*, workflow: Workflow | None, principal: Principal) -> Draft:
    """Return a person's draft, or what one would start with.

    Raises:
        NotAllowed.
    """
    person_id = draft_permit(principal, workflow)
    slug = workflow.slug if workflow else ""
    row = PlanDraft.objects.filter(person=person_id, workflow=slug).first()
    if row is not None:
        return _draft(row)
    latest = plan_latest(workflow=slug) if slug else None
    if latest is None:
        return Draft(slug, 0, yaml_load(NEW_TEXT).value, NEW_TEXT, "", 0, None)
    text = plan_yaml_of(latest)
    return Draft(slug, latest.number, yaml_load(text).value, text, "", 0, None)


@transaction.atomic
def draft_save(
    *,
    workflow: Workflow | None,
    principal: Principal,
    document: Any,
    revision: int,
    page: str,
    now: datetime,
) -> Draft:
    """Keep what a form says; the file follows it and keeps its comments where it can.

    Raises:
        NotAllowed, DraftTooLarge.
        DraftMoved: another page saved since `revision`.
    """
    row = _locked(workflow, principal, revision=revision, page=page, now=now)
    edited = text_edited(row.text, document)
    _size_check(edited.text)
    if edited.text != row.text:
        row.text, row.typed = edited.text, ""
    return _saved(row, page=page, now=now, lost=tuple(edited.lost))


@transaction.atomic
def draft_text_save(
    *,
    workflow: Workflow | None,
    principal: Principal,
    text: str,
    revision: int,
    page: str,
    now: datetime,
) -> Draft:
    """Keep a file as typed; one that cannot be read waits beside the last that could.

    Raises:
        NotAllowed, DraftTooLarge, DraftMoved.
    """
    row = _locked(workflow, principal, revision=revision, page=page, now=now)
    _size_check(text)
    try:
        yaml_load(text)
    except PlanUnreadable:
        row.typed = text.replace("\x00", "")
    else:
        row.text, row.typed = text, ""
    return _saved(row, page=page, now=now)


def draft_begin_again(*, rollout: Rollout, principal: Principal, now: datetime) -> Draft:
    """Draft a new rollout of a final one: its section of the plan, under a slug that is free.

    Its stable release is what its paths serve now. Beginning twice is beginning once.

    Raises:
        NotAllowed, StepRefused.
        DraftWaits: they write something else in this plan.
    """
    workflow = rollout.workflow
    draft_permit(principal, workflow)
    if RolloutState(rollout.state) not in FINAL:
        raise StepRefused(f"“{rollout.slug}” has not ended: its plan can still be changed.")
    paths = WorkflowPath.objects.filter(rollout_paths__rollout=rollout)
    serving = dict(paths.values_list("stable_id", "stable__version"))
    if set(serving) == {rollout.candidate_id}:
        raise StepRefused(f"{rollout.candidate.version} is the stable release already.")
    start = draft_get(workflow=workflow, principal=principal)
    section = {
        **yaml_load(plan_yaml_of(rollout.plan)).value["rollout"],
        "slug": rollout_slug_free(rollout),
    }
    if len(serving) == 1:
        (section["stable"],) = serving.values()
    if start.revision:
        written = start.document.get("rollout") if isinstance(start.document, dict) else None
        if isinstance(written, dict) and written.get("slug") == section["slug"]:
            return start
        raise DraftWaits(
            "You have a draft of this plan, and it was left as it is. Apply or discard it, then "
            f"start the new rollout of {rollout.candidate.version} again."
        )
    return draft_save(
        workflow=workflow,
        principal=principal,
        document={**start.document, "rollout": section},
        revision=start.revision,
        page="",
        now=now,
    )


def draft_rebase(*, workflow: Workflow, principal: Principal, base: int, now: datetime) -> None:
    """Let a draft stand on a newer plan: its author has seen what applying it takes back."""
    person_id = draft_permit(principal, workflow)
    PlanDraft.objects.filter(person=person_id, workflow=workflow.slug, base__lt=base).update(
        base=base, saved_at=now
    )


def draft_discard(*, workflow: Workflow | None, principal: Principal) -> None:
    """Forget a draft; the plan in force stays."""
    person_id = draft_permit(principal, workflow)
    slug = workflow.slug if workflow else ""
    PlanDraft.objects.filter(person=person_id, workflow=slug).delete()


def drafts_of(person: Person) -> dict[str, datetime]:
    """Return when each of a person's drafts was saved, by workflow; "" is the new one."""
    return dict(PlanDraft.objects.filter(person=person).values_list("workflow", "saved_at"))


def _locked(
    workflow: Workflow | None,
    principal: Principal,
    *,
    revision: int,
    page: str,
    now: datetime,
) -> PlanDraft:
    """Return the draft's row, made if this is its first save."""
    start = draft_get(workflow=workflow, principal=principal)
    person_id = draft_permit(principal, workflow)
    if start.revision == 0:
        try:
            with transaction.atomic():
                return PlanDraft.objects.create(
                    person_id=person_id,
                    workflow=start.workflow,
                    base=start.base,
                    text=start.text,
                    revision=0,
                    saved_from=page,
                    saved_at=now,
                )
        except IntegrityError:
            # Another page of theirs was first.
            pass
    row = PlanDraft.objects.select_for_update(of=("self",)).get(
        person=person_id, workflow=start.workflow
    )
    if row.revision != revision and row.saved_from != page:
        raise DraftMoved(
            "Another window saved this draft after this page was opened. What you typed is below "
            "and not saved: save again to keep it, or open the step anew to see the other."
        )
    return row


def _saved(row: PlanDraft, *, page: str, now: datetime, lost: tuple[str, ...] = ()) -> Draft:
    row.revision += 1
    row.saved_from = page
    row.saved_at = now
    row.save(update_fields=["text", "typed", "revision", "saved_from", "saved_at"])
    return _draft(row, lost=lost)


def _draft(row: PlanDraft, *, lost: tuple[str, ...] = ()) -> Draft:
    return Draft(
        row.workflow,
        row.base,
        yaml_load(row.text).value,
        row.text,
        row.typed,
        row.revision,
        row.saved_at,
        lost,
    )


def _size_check(text: str) -> None:
    if len(text.encode("utf-8", "replace")) > BYTES_MAX:
        raise DraftTooLarge("A plan has at most 1 MiB; what you typed is below and not saved.")
