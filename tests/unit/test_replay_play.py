"""When a played item is sent and with which times; the clock is the test's own."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rollout_console.replay.items import OBSERVATION, RUN, Item, Place
from rollout_console.replay.play import Player, shifted

RECORDED = datetime(2023, 11, 16, 18, tzinfo=UTC)
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


def item(after_s: float) -> Item:
    at = RECORDED + timedelta(seconds=after_s)
    return Item(RUN, Place("t", 1), at, {"id": "1", "occurred_at": at})


@dataclass
class Time:
    """A clock that only waiting moves."""

    now: datetime = NOW
    flushed: list[float] = field(default_factory=list)
    stopped_at: datetime | None = None

    def clock(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def going_on(self) -> bool:
        return self.stopped_at is None or self.now < self.stopped_at

    def flush(self) -> None:
        self.flushed.append((self.now - NOW).total_seconds())

    def player(self, speed: float) -> Player:
        return Player(
            oldest=RECORDED,
            speed=speed,
            started_at=NOW,
            clock=self.clock,
            wait=self.wait,
            going_on=self.going_on,
            flush=self.flush,
        )


def test_a_shift_keeps_every_distance() -> None:
    moved = shifted(item(-60), newest=RECORDED, now=NOW)
    assert moved.at == moved.fields["occurred_at"] == NOW - timedelta(seconds=60)
    assert moved.fields["id"] == "1"


def test_items_are_played_at_their_moment_and_never_ahead_of_it() -> None:
    time = Time()
    player = time.player(speed=10)
    for after_s in (0, 20, 600, 590):
        played = player.played(item(after_s))
        assert played is not None
        assert played.at == NOW + timedelta(seconds=after_s / 10)
        assert time.now >= played.at
    # One behind its time in the file is sent when it is met.
    assert time.now == NOW + timedelta(seconds=60)
    assert time.flushed[0] == 0


def test_a_dense_trace_is_sent_in_batches() -> None:
    time = Time()
    player = time.player(speed=100)
    for number in range(1000):
        assert player.played(item(number)) is not None
    assert 40 <= len(time.flushed) <= 110


def test_a_stop_ends_the_wait() -> None:
    time = Time(stopped_at=NOW + timedelta(seconds=1))
    assert time.player(speed=1).played(item(3600)) is None


def test_an_observation_has_an_id_of_its_own_in_each_replay() -> None:
    def ids(given: str, *, now: datetime = NOW) -> str:
        made = Item(OBSERVATION, Place("t", 1), RECORDED, {"id": given, "run_id": "r"})
        moved = shifted(made, newest=RECORDED, now=now).fields
        assert moved["run_id"] == "r"
        return str(moved["id"])

    assert ids("t:1") == "t:1@20261124T100000.000000Z"
    later = NOW + timedelta(microseconds=1)
    for given in ("t:1", "x" * 200):
        assert ids(given) == ids(given) != ids(given, now=later)
    long = {ids("x" * 199 + end) for end in "ab"}
    assert [len(each) for each in long] == [200, 200]
    assert (ids(""), ids("x" * 201)) == ("", "x" * 201)
    assert shifted(item(0), newest=RECORDED, now=NOW).fields["id"] == "1"
