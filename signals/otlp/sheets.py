"""Put the price sheet and a workflow's rules for spans: each put is a version, the newest rules."""

from datetime import datetime
from typing import Any

from django.db import connection, transaction

from approvals.authority.matrix import Role, Verb, person_may
from approvals.authority.principals import NotAllowed, Principal, require, who_can
from rollout_console.audit import services as audit
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.core.canonical import digest
from rollout_console.core.errors import InvalidInput
from signals.otlp.mapping import mapping_read
from signals.otlp.models import PriceSheetVersion, SpanMappingVersion
from signals.otlp.prices import sheet_read

# Puts take turns, so that the one compared with is the newest.
_LOCK = "otlp_sheets"


@transaction.atomic
def price_sheet_put(
    *, document: Any, principal: Principal, now: datetime
) -> tuple[PriceSheetVersion, bool]:
    """Put what tokens cost for every workflow; return the sheet in force and whether it is new.

    Raises:
        NotAllowed, InvalidInput.
    """
    prices_permit(principal)
    sheet, faults = sheet_read(document)
    if sheet is None:
        raise InvalidInput(f"The price sheet does not fit: {faults[0]['detail']}", errors=faults)
    _turn_take()
    newest = PriceSheetVersion.objects.order_by("-id").first()
    content = digest(document)
    if newest is not None and newest.digest == content:
        return newest, False
    version = PriceSheetVersion.objects.create(
        document=document, digest=content, put_at=now, put_by=principal.name[:150]
    )
    audit.append(
        "price_sheet.put",
        actor=principal,
        at=now,
        workflow="",
        subject_type="price_sheet",
        subject=version.pk,
        data={"models": len(sheet.models), "digest": content},
    )
    return version, True


def prices_permit(principal: Principal) -> None:
    """Raise NotAllowed, naming who can, unless `principal` may put prices.

    One sheet serves every workflow, so whoever owns one may, and a token that is limited to some
    may not.
    """
    verb = Verb.PRICES_EDIT
    if principal.may(verb, None):
        return
    held = frozenset[Role]().union(*principal.roles.values())
    if (
        principal.person_id is not None
        and principal.reaches(None)
        and person_may(verb, roles=held, scopes=principal.scopes)
    ):
        return
    workflows = Workflow.objects.select_related("owner", "deputy").order_by("slug")
    names = list(dict.fromkeys(name for one in workflows for name in who_can(verb, one)))
    raise NotAllowed(
        f"Prices hold for every workflow; putting them is for: {', '.join(names) or 'nobody yet'}.",
        who_can=names,
    )


@transaction.atomic
def span_mapping_put(
    *, workflow: Workflow, document: Any, principal: Principal, now: datetime
) -> tuple[SpanMappingVersion, bool]:
    """Put a workflow's rules for spans; return those in force and whether they are new.

    Raises:
        NotAllowed, InvalidInput.
    """
    require(principal, Verb.SPAN_MAPPING_EDIT, workflow)
    paths = list(
        WorkflowPath.objects.filter(workflow=workflow)
        .order_by("slug")
        .values_list("slug", flat=True)
    )
    mapping, faults = mapping_read(document, paths=paths)
    if mapping is None:
        raise InvalidInput(f"The mapping does not fit: {faults[0]['detail']}", errors=faults)
    _turn_take()
    newest = workflow.span_mapping_versions.order_by("-id").first()
    content = digest(document)
    if newest is not None and newest.digest == content:
        return newest, False
    version = workflow.span_mapping_versions.create(
        document=document, digest=content, put_at=now, put_by=principal.name[:150]
    )
    audit.append(
        "span_mapping.put",
        actor=principal,
        at=now,
        workflow=workflow.slug,
        subject_type="span_mapping",
        subject=version.pk,
        data={
            "rules": len(mapping.rules),
            "drop_scopes": sorted(mapping.drop_scopes),
            "digest": content,
        },
    )
    return version, True


def _turn_take() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [_LOCK])
