"""Releases: registered once with their content, which never changes afterwards."""

from datetime import datetime
from typing import Any

from django.db import transaction

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal, require
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Release, ReleaseChange, Workflow
from rollout_console.core.canonical import digest
from rollout_console.core.errors import InvalidInput
from rollout_console.rollouts.errors import ReleaseDiffers, errors_of
from rollout_console.rollouts.plan_check import RELEASE
from rollout_console.rollouts.plan_schema import release_read
from rollout_console.rollouts.plan_types import ReleasePlan


@transaction.atomic
def release_register(
    *,
    workflow: Workflow,
    version: str,
    changes: Any,
    source: Any,
    principal: Principal,
    now: datetime,
) -> tuple[Release, bool]:
    """Register what a release changes; return it and whether it is new.

    One that was only seen in runs, or named by a plan, becomes registered and counts as new.

    Raises:
        NotAllowed, InvalidInput, ReleaseDiffers.
    """
    require(principal, Verb.RELEASE_REGISTER, workflow)
    if not RELEASE.fullmatch(version):
        raise InvalidInput(
            "A release's version has 1 to 100 letters, digits, dots, underscores and dashes.",
            errors=[{"pointer": "/version", "detail": "Name the release so."}],
        )
    told, faults = release_read({"changes": changes, "source": source})
    if told is None:
        errors = errors_of(faults)
        raise InvalidInput(f"The release does not fit: {errors[0]['detail']}", errors=errors)
    release, created = release_store(
        workflow=workflow,
        told=ReleasePlan(version, told.changes, told.source or {}),
        principal=principal,
        now=now,
    )
    return release, created


def release_store(
    *, workflow: Workflow, told: ReleasePlan, principal: Principal, now: datetime
) -> tuple[Release, bool]:
    """Write a release in the caller's transaction; `told.source` None means: as it is.

    Raises:
        ReleaseDiffers: it is registered with other content.
    """
    release = release_named(workflow=workflow, version=told.version, now=now)
    # The row is held to the end, so that two registrations cannot both find it unregistered.
    release = Release.objects.select_for_update().get(pk=release.pk)
    source = release.source if told.source is None else told.source
    content = digest({"changes": told.changes, "source": source})
    if release.registered:
        if release.content_digest != content:
            raise ReleaseDiffers(
                f"Release {told.version} of {workflow.slug} is registered with other content. "
                "A release never changes: register the new content under a new version."
            )
        return release, False
    release.registered = True
    release.source = source
    release.content_digest = content
    release.save(update_fields=["registered", "source", "content_digest"])
    ReleaseChange.objects.bulk_create(
        ReleaseChange(release=release, position=position, **change)
        for position, change in enumerate(told.changes)
    )
    audit.append(
        "release.registered",
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="release",
        subject=told.version,
        data={"changes": len(told.changes), "digest": content},
    )
    return release, True


def release_named(*, workflow: Workflow, version: str, now: datetime) -> Release:
    """Return a release by name; one nobody registered is made as such."""
    release, _ = Release.objects.get_or_create(
        workflow=workflow, version=version, defaults={"registered": False, "created_at": now}
    )
    return release
