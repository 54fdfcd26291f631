import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.principals import NotAllowed, token_principal
from rollout_console.audit.models import AuditEntry
from rollout_console.containment.clock import alerts_contain_due
from rollout_console.containment.models import Command
from rollout_console.containment.services import (
    ActionNotAvailable,
    KeyReused,
    MoveRefused,
    Outcome,
)
from rollout_console.core.errors import InvalidInput, NotFound
from rollout_console.core.models import OutboxEvent
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.models import Mark, Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.guards.models import Guard
from tests.factories import contain, person, principal, rollout_at, token

pytestmark = pytest.mark.django_db


def flag(number: int) -> dict[str, object]:
    document = ExposureVersion.objects.get(number=number).document
    found = document["flags"]["support-reply.draft"]
    assert isinstance(found, dict)
    return found


def releases_served(number: int) -> set[object]:
    variants = flag(number)["variants"]
    assert isinstance(variants, dict)
    return {value["release"] for value in variants.values()}


def entries(action: str) -> int:
    return AuditEntry.objects.filter(action=action).count()


def test_rolling_back_leaves_nothing_exposed() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    assert "2026.11.2" in releases_served(ExposureVersion.objects.latest("number").number)

    outcome = contain(rollout, "rollback", reason_code="quality")

    rollout.refresh_from_db()
    assert (rollout.state, outcome.state) == ("rolled_back", "rolled_back")
    assert releases_served(outcome.exposure_version) == {"2026.10.4"}
    assert not rollout.exposed.exists()
    assert not rollout.rollout_paths.filter(in_force=True).exists()
    assert not Guard.objects.filter(rollout=rollout.slug, armed=True).exists()


def test_a_press_writes_audit_outbox_and_mark_with_the_change() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    opened_at = timezone.now() - timedelta(seconds=3)

    outcome = contain(
        rollout, "rollback", reason_code="other", note="support asked", opened_at=opened_at
    )

    entry = AuditEntry.objects.get(action="rollout.rolled_back")
    assert (entry.actor, entry.actor_kind) == ("owner", "person")
    assert entry.reason == {"code": "other", "note": "support asked"}
    assert entry.data["exposure_version"] == outcome.exposure_version
    assert entry.data["exposed_before"] == [{"segment": "internal-ops", "share": "0.9"}]
    assert entry.data["opened_at"] == opened_at.isoformat()
    sent = OutboxEvent.objects.filter(type="rollout.changed", key=rollout.slug).latest("pk")
    assert sent.data["state"] == "rolled_back"
    assert Mark.objects.filter(rollout=rollout, kind="action").get().text == "rolled back by owner"


def test_pausing_keeps_what_is_exposed() -> None:
    rollout = rollout_at(RolloutState.LIVE)

    outcome = contain(rollout, "pause")

    assert outcome.state == "paused"
    assert rollout.exposed.count() == 1
    assert "2026.11.2" in releases_served(outcome.exposure_version)


@pytest.mark.parametrize("action", ["pause", "rollback"])
def test_pressing_twice_equals_pressing_once(action: str) -> None:
    rollout = rollout_at(RolloutState.LIVE)

    first = contain(rollout, action, key="one")
    same = contain(rollout, action, key="one")
    again = contain(rollout, action, key="two")

    assert same == first
    assert (again.version, again.exposure_version) == (first.version, first.exposure_version)
    assert entries("rollout.paused") + entries("rollout.rolled_back") == 1
    assert Mark.objects.filter(kind="action").count() == 1


def test_a_key_stands_for_one_command() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    contain(rollout, "pause", key="one")

    with pytest.raises(KeyReused):
        contain(rollout, "rollback", key="one")

    rollout.refresh_from_db()
    assert rollout.state == "paused"


def test_a_stale_press_applies_and_says_what_changed() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    contain(rollout, "pause", principal=principal("deputy"))

    outcome = contain(rollout, "rollback", expected_version=rollout.version)

    assert outcome.state == "rolled_back"
    assert len(outcome.changed_meanwhile) == 1
    assert outcome.changed_meanwhile[0].startswith("deputy: paused at ")


@pytest.mark.parametrize(
    "role", [Role.VIEWER, Role.LEAD, Role.REVIEWER, Role.APPROVER, Role.ADMINISTRATOR]
)
@pytest.mark.parametrize("action", ["pause", "rollback"])
def test_who_may_not_contain_learns_who_can(action: str, role: Role) -> None:
    rollout = rollout_at(RolloutState.LIVE)

    with pytest.raises(NotAllowed) as refusal:
        contain(rollout, action, principal=principal(role.value))

    assert refusal.value.facts["who_can"] == ["owner", "deputy"]
    rollout.refresh_from_db()
    assert rollout.state == "live"
    assert not Command.objects.exists()
    assert entries("rollout.paused") + entries("rollout.rolled_back") == 0


def test_an_outsider_is_not_told_that_the_rollout_exists() -> None:
    rollout = rollout_at(RolloutState.LIVE)

    with pytest.raises(NotFound):
        contain(rollout, "rollback", principal=principal("outsider"))


def test_a_service_token_with_control_contains() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    _, robot = token(Scope.CONTROL)

    assert contain(rollout, "rollback", principal=robot).state == "rolled_back"
    assert AuditEntry.objects.get(action="rollout.rolled_back").actor_kind == "token"


def test_a_personal_token_ends_with_its_person() -> None:
    rollout_at(RolloutState.LIVE)
    owner = person("owner")
    secret, _ = token(Scope.CONTROL, of=owner)
    owner.is_active = False
    owner.save()

    assert token_principal(secret, now=timezone.now()) is None


@pytest.mark.parametrize(
    ("reason", "pointer"),
    [
        ({"reason_code": "boredom"}, "/reason/code"),
        ({"reason_code": "other"}, "/reason/note"),
        ({"reason_code": "other", "note": "a\x00b"}, "/reason/note"),
        ({"reason_code": "cost", "note": "x" * 2001}, "/reason/note"),
    ],
)
def test_a_reason_that_does_not_fit_is_refused(reason: dict[str, str], pointer: str) -> None:
    rollout = rollout_at(RolloutState.LIVE)

    with pytest.raises(InvalidInput) as refusal:
        contain(rollout, "rollback", **reason)

    assert refusal.value.facts["errors"][0]["pointer"] == pointer
    rollout.refresh_from_db()
    assert rollout.state == "live"


@pytest.mark.parametrize("state", [RolloutState.DRAFT, RolloutState.READY])
def test_what_was_never_exposed_cannot_be_rolled_back(state: RolloutState) -> None:
    rollout = rollout_at(state)

    with pytest.raises(MoveRefused):
        contain(rollout, "rollback")

    rollout.refresh_from_db()
    assert rollout.state == state


def test_an_unknown_action_is_refused_in_words() -> None:
    rollout = rollout_at(RolloutState.LIVE)

    with pytest.raises(ActionNotAvailable, match="explode"):
        contain(rollout, "explode")


def alert_due(rollout: Rollout, action: str) -> Alert:
    guard = Guard.objects.get(rollout=rollout.slug, slug="spend-cap")
    now = timezone.now()
    return Alert.objects.create(
        workflow=rollout.workflow,
        rollout=rollout.slug,
        guard=guard,
        owner=rollout.workflow.owner,
        sentence="One task cost 9,000 dollars.",
        opened_at=now,
        due_at=now,
        due_action={"action": action},
    )


def test_a_due_alert_contains_once() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    alert_due(rollout, "rollback")

    assert alerts_contain_due(now=timezone.now()) == 1
    assert alerts_contain_due(now=timezone.now()) == 0

    rollout.refresh_from_db()
    assert rollout.state == "rolled_back"
    entry = AuditEntry.objects.get(action="rollout.rolled_back")
    assert (entry.actor_kind, entry.reason["code"]) == ("system", "cost")


def test_a_persons_roll_back_stops_the_clock() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    alert = alert_due(rollout, "rollback")

    contain(rollout, "rollback")

    alert.refresh_from_db()
    assert alert.due_at is None
    assert alerts_contain_due(now=timezone.now()) == 0
    assert entries("rollout.rolled_back") == 1


def test_the_next_rollout_may_use_the_path_again() -> None:
    rollout_at(RolloutState.ROLLED_BACK)

    again = rollout_at(RolloutState.LIVE, slug="support-reply-2026.11.2-again")

    assert again.state == "live"


@pytest.mark.django_db(transaction=True)
def test_many_presses_at_once_leave_one_trace() -> None:
    rollout = rollout_at(RolloutState.LIVE)
    outcomes: list[Outcome] = []
    start = threading.Barrier(8)

    def press(number: int) -> None:
        start.wait()
        outcomes.append(contain(rollout, "pause" if number % 2 else "rollback"))
        connections.close_all()

    threads = [threading.Thread(target=press, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    rollout.refresh_from_db()
    assert len(outcomes) == 8
    assert rollout.state == "rolled_back"
    assert entries("rollout.rolled_back") == 1
    assert entries("rollout.paused") <= 1
    versions = list(ExposureVersion.objects.order_by("number").values_list("number", flat=True))
    assert versions == list(range(versions[0], versions[0] + len(versions)))


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_press_stays_when_it_cannot_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    before = ExposureVersion.objects.count()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("rollout_console.containment.services.outbox.add", broken)
    with pytest.raises(RuntimeError):
        contain(rollout, "rollback")

    rollout.refresh_from_db()
    assert rollout.state == "live"
    assert ExposureVersion.objects.count() == before
    assert entries("rollout.rolled_back") == 0
    assert connection.in_atomic_block is False
