"""The ledger of trips as a page shows it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.urls import reverse
from django.utils.http import urlencode

from approvals.authority.matrix import Verb
from approvals.authority.principals import Principal
from rollout_console.core.errors import NotFound
from rollout_console.web.selectors.shell import readable_workflows
from rollout_console.web.words import ALERTS, Shown, duration_text, share_text
from signals.alerts.trips import GuardTrips, TripRow, guard_trips, trip_rows

PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class ShownTrip:
    row: TripRow
    shown: Shown
    answer: str
    detect: str
    done: str


@dataclass(frozen=True, slots=True)
class ShownGuard:
    """A guard's trips as text; `edit` leads into the plan editor with the suggested number."""

    row: GuardTrips
    precision: str
    range: str
    detect: str
    edit: str


@dataclass(frozen=True, slots=True)
class TripsView:
    workflows: list[tuple[str, str]]
    chosen: str
    guards: list[ShownGuard]
    trips: list[ShownTrip]
    older: int | None


def trips_view(
    *, principal: Principal, workflow: str, before: int | None, now: datetime
) -> TripsView:
    """Return the readable trips, of one workflow or of all.

    Raises:
        NotFound: there is no such workflow, or it is not theirs to read.
    """
    readable = readable_workflows(principal)
    ids = [pk for pk, each in readable.items() if workflow in ("", each.slug)]
    if workflow and not ids:
        raise NotFound(f"There is no workflow “{workflow}” in yours. Nothing is affected.")
    rows = trip_rows(workflow_ids=ids, before_id=before, limit=PAGE + 1)
    return TripsView(
        workflows=sorted((each.slug, each.name) for each in readable.values()),
        chosen=workflow,
        guards=[_guard(row, principal) for row in guard_trips(now=now, workflow_ids=ids)],
        trips=[_trip(row) for row in rows[:PAGE]],
        older=rows[PAGE - 1].alert if len(rows) > PAGE else None,
    )


def _trip(row: TripRow) -> ShownTrip:
    answer = {True: "Right", False: "Wrong", None: "Not answered"}[row.was_right]
    detect = ""
    if row.detect_s is not None:
        since = "the recorded onset" if row.detect_from == "onset" else "the first bad run"
        detect = f"{duration_text(row.detect_s)} from {since}"
    return ShownTrip(
        row=row,
        shown=ALERTS[row.state],
        answer=answer,
        detect=detect,
        done=", ".join(row.done) or "nothing",
    )


def _guard(row: GuardTrips, principal: Principal) -> ShownGuard:
    found = row.precision
    bounds = ""
    if found.interval is not None:
        bounds = f"{share_text(found.interval.low)} to {share_text(found.interval.high)}"
    edit = ""
    if row.suggestion is not None and principal.may(Verb.PLAN_EDIT, row.workflow_id):
        address = reverse("web:plan_edit", args=[row.workflow, "triggers"])
        asked = urlencode({"trigger": row.guard, "limit": f"{row.suggestion.limit:.10g}"})
        edit = f"{address}?{asked}"
    return ShownGuard(
        row=row,
        precision=share_text(found.share),
        range=bounds,
        detect="" if row.detect_median_s is None else duration_text(row.detect_median_s),
        edit=edit,
    )
