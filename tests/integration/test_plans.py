import copy
import threading
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.principals import SYSTEM, NotAllowed, Principal
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import ActionRoute, Release, Segment, Workflow, WorkflowPath
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.containment.targets import Press
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.errors import (
    PlanConflict,
    PlanInForce,
    PlanInvalid,
    ReleaseDiffers,
    RolloutInForce,
)
from rollout_console.rollouts.models import PlanVersion, Rollout, RouteRestriction
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load
from rollout_console.rollouts.releases import release_register
from rollout_console.rollouts.services import PlanResult, rollout_ready
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.guards.models import Guard
from tests.factories import contain, people, person, principal, rollout_at, token
from tests.plans import plan_document

pytestmark = pytest.mark.django_db


def apply(document: Any, **fields: Any) -> PlanResult:
    return plan_apply_and_publish(
        **{
            "document": document,
            "text": "",
            "principal": SYSTEM,
            "now": timezone.now(),
            **fields,
        }
    )


def written() -> tuple[int, ...]:
    return tuple(
        model.objects.count()
        for model in (PlanVersion, AuditEntry, OutboxEvent, Rollout, WorkflowPath, ExposureVersion)
    )


def test_a_plan_makes_catalogue_and_draft() -> None:
    people()

    result = apply(plan_document())

    assert (result.workflow, result.number, result.created) == ("support-reply", 1, True)
    workflow = Workflow.objects.get(slug="support-reply")
    assert (workflow.owner.username, workflow.deputy.username) == ("owner", "deputy")
    assert workflow.hold_s == 60
    path = workflow.paths.get()
    assert path.stable is not None
    assert path.candidate is not None
    assert (path.stable.version, path.candidate.version) == ("2026.10.4", "2026.11.2")
    assert (path.stable.registered, path.candidate.registered) == (False, True)
    assert path.candidate.changes.get().after == "v19"
    rollout = Rollout.objects.get(slug="support-reply-2026.11.2")
    assert (rollout.state, rollout.version, rollout.stage) == ("draft", 1, 1)
    assert [
        (stage.slug, [(each.segment.slug, str(each.share.normalize())) for each in found])
        for stage in rollout.stages.order_by("position")
        if (found := stage.segments.order_by("position"))
    ] == [
        ("first", [("internal-ops", "0.9")]),
        ("eu", [("internal-ops", "1"), ("eu-customers", "0.05")]),
    ]
    assert set(Guard.objects.values_list("slug", "kind", "armed")) == {
        ("cost-inside", "criterion", False),
        ("quality-holds", "criterion", False),
        ("quality-low", "trigger", False),
        ("slow", "trigger", False),
        ("spend-cap", "trigger", False),
    }
    entry = AuditEntry.objects.get(action="plan.applied")
    assert (entry.actor_kind, entry.subject, entry.data["number"]) == ("system", "support-reply", 1)
    event = OutboxEvent.objects.get(type="rollout.changed")
    assert event.data["state"] == "draft"


def test_the_same_content_again_changes_nothing() -> None:
    people()
    apply(plan_document())
    before = written()

    again = apply(dict(reversed(plan_document().items())))

    assert (again.number, again.created, again.diff) == (1, False, [])
    assert written() == before


def test_a_changed_draft_is_rewritten_and_its_diff_says_what() -> None:
    people()
    apply(plan_document())
    document = plan_document()
    document["rollout"]["stages"][0]["segments"][0]["share"] = 0.5
    document["rollout"]["triggers"].pop()
    document["workflow"]["hold_s"] = 30

    result = apply(document)

    assert result.number == 2
    assert "changed rollout.stages[first].segments[internal-ops].share: 0.9 → 0.5" in result.diff
    assert "changed workflow.hold_s: 60 → 30" in result.diff
    assert "removed rollout.triggers[spend-cap].limit: 2.0" in result.diff
    rollout = Rollout.objects.get()
    assert (rollout.version, rollout.plan.number) == (2, 2)
    share = rollout.stages.get(position=1).segments.get().share
    assert str(share.normalize()) == "0.5"
    assert not Guard.objects.filter(slug="spend-cap", retired_at=None).exists()


def test_a_dry_run_says_the_same_and_writes_nothing() -> None:
    people()
    before = written()

    result = apply(plan_document(), dry_run=True)

    assert (result.number, result.created) == (1, True)
    assert "added workflow.hold_s: 60" in result.diff
    assert written() == before
    assert not Workflow.objects.exists()
    assert not Release.objects.exists()


def test_unknown_people_are_errors_with_their_lines() -> None:
    person("owner")
    text = yaml_dump(plan_document())
    line = 1 + text.splitlines().index("  deputy: deputy")
    before = written()

    with pytest.raises(PlanInvalid) as refused:
        apply(yaml_load(text).value, text=text)

    assert refused.value.facts["errors"] == [
        {
            "pointer": "/workflow/deputy",
            "detail": "There is no person “deputy”; create them, or name another.",
            "line": line,
        }
    ]
    assert written() == before


def test_every_fault_of_a_plan_is_told_at_once() -> None:
    people()
    document = plan_document()
    document["workflow"]["hold_s"] = 0
    document["rollout"]["stages"][0]["segments"][0]["segment"] = "nobody"
    document["rollout"]["triggers"][0]["signal"] = "quality_pas_rate"
    before = written()

    with pytest.raises(PlanInvalid) as refused:
        apply(document)

    assert [error["pointer"] for error in refused.value.facts["errors"]] == [
        "/workflow/hold_s",
        "/rollout/stages/0/segments/0/segment",
        "/rollout/triggers/0/signal",
    ]
    assert written() == before


def test_a_release_never_changes_by_a_plan() -> None:
    people()
    apply(plan_document())
    document = plan_document()
    document["releases"][0]["changes"][0]["after"] = "v20"
    before = written()

    with pytest.raises(PlanConflict, match="registered with other content"):
        apply(document)

    assert written() == before


def test_the_stable_release_is_the_one_in_place() -> None:
    people()
    apply(plan_document())
    before = written()

    with pytest.raises(PlanConflict, match=r"2026\.10\.4; the plan says 2026\.10\.5"):
        apply(plan_document(stable="2026.10.5"))
    with pytest.raises(PlanConflict, match="the plan says there is none"):
        apply(plan_document(stable=None))

    assert written() == before


def test_a_first_release_has_no_stable_one() -> None:
    people()

    apply(plan_document(stable=None))

    assert Rollout.objects.get().stable is None
    assert WorkflowPath.objects.get().stable is None


def change_candidate(document: dict[str, Any]) -> None:
    document["rollout"]["candidate"] = "2026.12.1"


def change_stable(document: dict[str, Any]) -> None:
    document["rollout"]["stable"] = None


def change_rule(document: dict[str, Any]) -> None:
    document["workflow"]["segments"][0]["rule"] = {"==": [{"var": "team"}, "all"]}


def change_path_slug(document: dict[str, Any]) -> None:
    document["workflow"]["paths"][0]["slug"] = "write"
    document["rollout"] |= {"slug": "the-next-one", "paths": ["write"]}
    for guard in [*document["rollout"]["criteria"], *document["rollout"]["triggers"]]:
        guard["path"] = "write"


@pytest.mark.parametrize("change", [change_candidate, change_stable, change_rule, change_path_slug])
@pytest.mark.parametrize("state", [RolloutState.READY, RolloutState.LIVE, RolloutState.PAUSED])
def test_what_is_in_force_keeps_what_it_stands_on(change: Any, state: RolloutState) -> None:
    rollout_at(state)
    document = plan_document()
    change(document)
    before = written()

    with pytest.raises(PlanInForce, match=f"is {state}, a plan keeps"):
        apply(document)

    assert written() == before


def test_names_and_a_shorter_clock_may_change_under_a_live_rollout() -> None:
    live = rollout_at(RolloutState.LIVE)
    document = plan_document()
    document["workflow"]["name"] = "Replies"
    document["workflow"]["hold_s"] = 30

    apply(document)

    workflow = Workflow.objects.get()
    assert (workflow.name, workflow.hold_s) == ("Replies", 30)
    version = live.version
    live.refresh_from_db()
    assert (live.version, live.state) == (version, "live")
    assert Guard.objects.filter(armed=True).count() == 5


def test_the_next_rollout_is_drafted_beside_a_live_one_and_waits() -> None:
    rollout_at(RolloutState.LIVE)

    apply(plan_document(slug="the-next-one", candidate="2026.12.1"))

    path = WorkflowPath.objects.get()
    assert path.candidate is not None
    assert path.candidate.version == "2026.11.2"
    before = written()
    with pytest.raises(RolloutInForce, match=r"support-reply-2026\.11\.2"):
        rollout_ready(slug="the-next-one", principal=principal("owner"), now=timezone.now())
    assert written() == before
    assert Rollout.objects.get(slug="the-next-one").state == "draft"


def test_after_a_roll_back_the_next_rollout_takes_the_path() -> None:
    rollout_at(RolloutState.ROLLED_BACK)

    with pytest.raises(PlanConflict, match="is rolled back, for good"):
        apply(plan_document(candidate="2026.12.1"))
    apply(plan_document(slug="the-next-one", candidate="2026.12.1"))
    rollout_ready(slug="the-next-one", principal=principal("owner"), now=timezone.now())

    path = WorkflowPath.objects.get()
    assert path.candidate is not None
    assert path.candidate.version == "2026.12.1"


def test_a_rollout_slug_belongs_to_one_workflow() -> None:
    people()
    apply(plan_document())
    before = written()

    with pytest.raises(PlanConflict, match="belongs to another workflow"):
        apply(plan_document("claims", slug="support-reply-2026.11.2"))

    assert written() == before


def test_a_segment_that_was_used_stays_in_the_plan() -> None:
    rollout_at(RolloutState.ROLLED_BACK)
    document = plan_document(slug="the-next-one", candidate="2026.12.1")
    document["workflow"]["segments"].pop()
    document["rollout"]["stages"].pop()
    before = written()

    with pytest.raises(PlanConflict, match="“eu-customers” was in use"):
        apply(document)

    assert written() == before
    assert Segment.objects.count() == 2


def test_a_segment_that_no_draft_needs_any_more_goes() -> None:
    people()
    apply(plan_document())
    document = plan_document()
    document["workflow"]["segments"].pop()
    document["rollout"]["stages"].pop()

    apply(document)

    assert Segment.objects.get().slug == "internal-ops"


# --- Restrictions outlive rollouts and plans ---


def restricted(segment: str) -> RouteRestriction:
    """Return the restriction that containment left on a path after its rollout was rolled back."""
    rollout = rollout_at(RolloutState.LIVE)
    press = Press(action_route="send_message", segments=(segment,))
    contain(rollout, "disable_action", press=press)
    contain(rollout, "rollback")
    return RouteRestriction.objects.get()


def drop_route(document: dict[str, Any]) -> None:
    del document["workflow"]["action_routes"]


def drop_segment(document: dict[str, Any]) -> None:
    document["workflow"]["segments"].pop()
    document["rollout"]["stages"].pop()


@pytest.mark.parametrize(
    ("drop", "refusal"),
    [
        (drop_route, "action route “send_message” cannot leave the plan"),
        (change_path_slug, "path “draft” cannot leave the plan"),
        (drop_segment, "segment “eu-customers” cannot leave the plan"),
    ],
)
def test_what_a_restriction_names_stays_in_the_plan(drop: Any, refusal: str) -> None:
    restricted("eu-customers")
    document = plan_document(slug="the-next-one", candidate="2026.12.1")
    drop(document)
    before = written()

    held = "send_message is disabled on “draft” for “eu-customers”; enable it first"
    with pytest.raises(PlanConflict, match=f"{refusal}: {held}"):
        apply(document)

    assert written() == before
    assert RouteRestriction.objects.exists()


def test_a_restricted_segment_keeps_its_rule_where_nobody_can_approve_another() -> None:
    row = restricted("internal-ops")
    document = plan_document(slug="the-next-one", candidate="2026.12.1")
    change_rule(document)
    before = written()

    with pytest.raises(PlanConflict, match="send_message is disabled on “draft”") as refused:
        apply(document)

    assert refused.value.facts["errors"][0]["pointer"] == "/workflow/segments/0/rule"
    assert written() == before
    row.delete()
    assert apply(document).created


@pytest.mark.django_db(transaction=True)
def test_a_plan_waits_for_nobody_who_only_refers_to_its_rows() -> None:
    """The watch refers to them while it holds the guards that a plan asks for."""
    rollout = rollout_at(RolloutState.DRAFT)
    refers, done = threading.Event(), threading.Event()

    def watch() -> None:
        now = timezone.now()
        with transaction.atomic(), connection.cursor() as cursor:
            for segment in Segment.objects.all():
                RouteRestriction.objects.create(
                    path=WorkflowPath.objects.get(),
                    segment=segment,
                    action_route=ActionRoute.objects.get(),
                    state="ask",
                    since=now,
                )
            Alert.objects.create(
                workflow=rollout.workflow,
                rollout=rollout.slug,
                guard=Guard.objects.get(slug="slow"),
                owner=rollout.workflow.owner,
                sentence="Too slow.",
                opened_at=now,
            )
            # References are checked, and what they refer to locked, at the latest at the end.
            cursor.execute("set constraints all immediate")
            refers.set()
            done.wait(30)
            transaction.set_rollback(True)
        connections.close_all()

    thread = threading.Thread(target=watch)
    thread.start()
    assert refers.wait(30)
    document = plan_document()
    document["workflow"]["name"] = "Replies"
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("set local lock_timeout = '2s'")
            apply(document)
    finally:
        done.set()
        thread.join(30)

    assert Workflow.objects.get().name == "Replies"


def service(*scopes: Scope) -> Principal:
    return token(*scopes)[1]


def test_who_may_apply_a_plan() -> None:
    people()
    apply(plan_document())
    limited = token(Scope.RELEASE, workflows=(Workflow.objects.get(),))[1]
    changed = plan_document()
    changed["workflow"]["name"] = "Replies"

    for who in (principal("approver"), principal("viewer"), principal("administrator")):
        with pytest.raises(NotAllowed, match="Plan edit in Support reply is for: owner, deputy"):
            apply(changed, principal=who)
    for who in (principal("owner"), limited, service(Scope.CONTROL)):
        with pytest.raises(NotAllowed, match="A new workflow"):
            apply(plan_document("claims"), principal=who)
    assert PlanVersion.objects.count() == 1

    apply(changed, principal=limited)
    person("planner", Role.OWNER)
    apply(plan_document("claims"), principal=principal("planner"))
    apply(plan_document("invoices"), principal=service(Scope.RELEASE))
    assert PlanVersion.objects.count() == 4


def test_a_release_is_registered_once() -> None:
    people()
    apply(plan_document())
    workflow = Workflow.objects.get()
    changes = [{"component": "model", "name": "writer", "before": "a", "after": "b"}]

    def register(version: str, what: Any) -> tuple[Release, bool]:
        return release_register(
            workflow=workflow,
            version=version,
            changes=what,
            source={"commit": "abc"},
            principal=service(Scope.RELEASE),
            now=timezone.now(),
        )

    release, created = register("2026.10.4", changes)
    assert (release.registered, created, release.changes.get().name) == (True, True, "writer")
    again, created = register("2026.10.4", copy.deepcopy(changes))
    assert (again.pk, created) == (release.pk, False)
    with pytest.raises(ReleaseDiffers):
        register("2026.10.4", [])
    assert AuditEntry.objects.filter(action="release.registered", subject="2026.10.4").count() == 1


def test_ready_twice_is_ready_once() -> None:
    rollout = rollout_at(RolloutState.READY)
    before = written()

    again = rollout_ready(slug=rollout.slug, principal=principal("owner"), now=timezone.now())

    assert (again.state, again.version) == ("ready", rollout.version)
    assert written() == before
