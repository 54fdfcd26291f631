import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.utils import timezone
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

from approvals.authority.matrix import Scope
from rollout_console.exposure import services
from rollout_console.exposure.models import ExposureVersion
from rollout_console.exposure.services import current_number, version_publish
from rollout_console.exposure.store import Store
from rollout_console.rollouts.states import RolloutState
from tests.factories import contain, rollout_at, token
from tests.live import Console, console  # noqa: F401  # a fixture

KEY = "support-reply.draft"


def publish(*, force: bool = False) -> ExposureVersion:
    return version_publish(cause="test", actor_name="owner", now=timezone.now(), force=force)


def wait_for(holds: Callable[[], bool], *, deadline_s: float = 10.0) -> None:
    done = threading.Event()
    for _ in range(int(deadline_s / 0.005)):
        if holds():
            return
        done.wait(0.005)
    raise AssertionError(f"it did not hold within {deadline_s} s")


@pytest.mark.django_db
def test_a_version_is_written_only_when_something_changed_unless_forced() -> None:
    first = publish()
    assert publish().number == first.number

    forced = publish(force=True)

    assert (forced.number, forced.digest) == (first.number + 1, first.digest)
    assert current_number() == forced.number
    assert ExposureVersion.objects.count() == 2


@pytest.mark.django_db
def test_publishing_takes_a_fixed_number_of_queries(django_assert_num_queries: Any) -> None:
    rollout_at(RolloutState.LIVE)
    rollout_at(RolloutState.LIVE, workflow="claims-intake", slug="claims-2")

    # Savepoint twice, head twice, paths, routes, restrictions, exposed, modes, rollouts, version,
    # head, notify.
    with django_assert_num_queries(13):
        publish(force=True)


@pytest.mark.django_db(transaction=True)
def test_versions_are_numbered_in_commit_order() -> None:
    publish()
    numbers: list[int] = []

    def publisher() -> None:
        try:
            for _ in range(10):
                with transaction.atomic():
                    number = publish(force=True).number
                    # Under the head's lock until the commit: nobody else is in between.
                    numbers.append(number)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=publisher) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert numbers == list(range(2, 42))
    assert current_number() == 41


@pytest.fixture
def followed(transactional_db: None) -> Iterator[Store]:
    store = Store()
    store.start()
    yield store
    store.stop()


def number(store: Store) -> int:
    return 0 if store.snapshot is None else store.snapshot.number


def test_a_new_console_has_a_document_that_exposes_nobody(followed: Store) -> None:
    assert number(followed) == 1
    assert followed.snapshot is not None
    assert b'"flags":{}' in followed.snapshot.document_bytes(None)


def test_a_notice_arrives_before_the_poll(
    followed: Store,
    monkeypatch: pytest.MonkeyPatch,
    beside: psycopg.Connection[Any],
) -> None:
    # With a poll of a minute, only the notice can have told it.
    monkeypatch.setattr("rollout_console.exposure.store.POLL_S", 60.0)
    wait_for(lambda: len(followers(beside)) == 1)
    seen = publish(force=True).number
    wait_for(lambda: number(followed) == seen)

    seen = publish(force=True).number

    wait_for(lambda: number(followed) == seen)
    # So that the thread does not sit out its minute.
    monkeypatch.undo()
    publish(force=True)


def test_without_a_notice_the_poll_finds_it(
    followed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "channel_notify", lambda *args: None)

    seen = publish(force=True).number

    wait_for(lambda: number(followed) == seen)


def test_a_cut_connection_is_made_again_and_the_last_document_served_meanwhile(
    followed: Store, beside: psycopg.Connection[Any]
) -> None:
    held = number(followed)
    wait_for(lambda: len(followers(beside)) == 1)

    for pid in followers(beside):
        assert beside.execute("select pg_terminate_backend(%s)", [pid]).fetchone() == (True,)

    assert number(followed) == held
    seen = publish(force=True).number
    wait_for(lambda: number(followed) == seen)


@pytest.fixture
def beside(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection of whoever the application logs in as: its sessions show what they ask."""
    params = connection.get_connection_params()
    params.pop("options", None)
    with psycopg.connect(**params, autocommit=True) as made:
        yield made


def followers(beside: psycopg.Connection[Any]) -> list[int]:
    """Return the process ids of the connections that follow the exposure in this database."""
    rows = beside.execute(
        "select pid from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid() and query ilike '%exposure_exposurehead%'"
    )
    return [int(pid) for (pid,) in rows]


@pytest.mark.django_db(transaction=True)
def test_an_unmodified_client_is_served_stable_after_a_roll_back(
    console: Console,  # noqa: F811
) -> None:
    rollout = rollout_at(RolloutState.LIVE)
    secret, _ = token(Scope.EVALUATE)
    provider = OFREPProvider(
        console.url, headers_factory=lambda: {"Authorization": f"Bearer {secret}"}
    )
    api.set_provider(provider, "exposure")
    client = api.get_client("exposure")
    contexts = [EvaluationContext(f"user-{n}", {"team": "internal"}) for n in range(50)]

    def releases() -> list[Any]:
        details = [client.get_object_details(KEY, {}, context) for context in contexts]
        values = [found.value for found in details]
        return [value.get("release") for value in values if isinstance(value, Mapping)]

    console.wait_until(lambda: "2026.11.2" in releases(), what="the candidate to be served")
    # A share of 0.9: some are not exposed, and each asks again with the same answer.
    before = releases()
    assert set(before) == {"2026.11.2", "2026.10.4"}
    assert releases() == before

    contain(rollout, "rollback")

    console.wait_until(
        lambda: set(releases()) == {"2026.10.4"}, deadline_s=2, what="stable to be served"
    )


@pytest.mark.django_db(transaction=True)
def test_the_served_console_reports_its_health(console: Console) -> None:  # noqa: F811
    alive = console.send("GET", "/healthz")
    assert (alive.status, alive.json) == (200, {"status": "alive"})

    ready = console.send("GET", "/readyz").json
    assert ready["status"] == "ready"
    assert ready["waiting_for"] == []
    assert ready["valkey"] == "answers"
    assert (ready["worker"], ready["keeper"]) == ("away", "away")

    metrics = console.send("GET", "/metrics").body.decode()
    assert 'route="/healthz",status="200"} 1' in metrics
    assert "console_exposure_version" in metrics
    assert console.send("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status == 401
    reader, _ = token(Scope.READ)
    proxied = {"X-Forwarded-For": "203.0.113.9"}
    assert console.send("GET", "/metrics", headers=proxied, token=reader).status == 200
