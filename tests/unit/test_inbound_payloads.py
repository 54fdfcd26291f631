"""Bodies of Alertmanager and Grafana, read; what they are about; and what a guard makes of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.catalogue import signal_of
from signals.guards.decide import decide
from signals.guards.words import Decision, Evidence, Rule, Word
from signals.inbound.mapping import Rule as Mapped
from signals.inbound.mapping import rule_of, rules_read
from signals.inbound.payloads import batch_read
from signals.outside.selectors import OutsideFact
from signals.stats.estimate import Estimate

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "Down", "job": "replies"},
    "annotations": {},
    "startsAt": "2026-11-24T12:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
}


def read(*alerts: Any, source: str = "alertmanager", **fields: Any) -> Any:
    return batch_read({"alerts": list(alerts), **fields}, source=source)


def test_times_keep_six_digits_and_any_offset() -> None:
    (alert,) = read(ALERT).alerts
    assert alert.started_at == datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
    (alert,) = read({**ALERT, "startsAt": "2026-11-24T13:00:00+01:00"}).alerts
    assert alert.started_at == NOW


@pytest.mark.parametrize(
    "started", [None, 7, "", "2026-11-24", "2026-11-24T12:00:00", "0001-01-01T00:00:00Z"]
)
def test_a_start_that_is_no_time_is_a_fault(started: Any) -> None:
    batch = read({**ALERT, "startsAt": started}, ALERT)
    assert [fault["pointer"] for fault in batch.faults] == ["/alerts/0/startsAt"]
    assert [alert.index for alert in batch.alerts] == [1]


def test_an_alert_without_a_fingerprint_is_known_by_its_labels() -> None:
    one, again, other = read(
        ALERT,
        {**ALERT, "labels": {"job": "replies", "alertname": "Down"}},
        {**ALERT, "labels": {"alertname": "Down", "job": "others"}},
    ).alerts
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_what_grafana_knows_nothing_of() -> None:
    labels = {"alertname": "DatasourceError", "rulename": "Slow"}
    nothing, gone, over = read(
        {**ALERT, "labels": labels},
        {**ALERT, "status": "resolved", "annotations": {"grafana_state_reason": "MissingSeries"}},
        {**ALERT, "status": "resolved"},
        source="grafana",
        version="1",
    ).alerts
    assert (nothing.is_no_data, nothing.name) == (True, "Slow (DatasourceError)")
    assert [(alert.is_firing, alert.is_silent) for alert in (gone, over)] == [
        (False, True),
        (False, False),
    ]


@pytest.mark.parametrize("source", ["alertmanager", "grafana"])
def test_another_version_is_refused(source: str) -> None:
    batch = read(ALERT, source=source, version="99")
    assert [fault["pointer"] for fault in batch.faults] == ["/version"]
    assert batch.alerts == []


def test_own_labels_come_before_rules_and_the_first_rule_that_fits_counts() -> None:
    rules = [
        Mapped({"job": "a", "severity": "high"}, trigger="slow"),
        Mapped({"job": "a"}, path="draft"),
    ]
    assert rule_of({"job": "a", "severity": "high"}, rules) == rules[0]
    assert rule_of({"job": "a", "severity": "low"}, rules) == rules[1]
    assert rule_of({"job": "b"}, rules) is None
    own = rule_of({"job": "a", "rollout_trigger": "other", "rollout_path": "send"}, rules)
    assert own == Mapped({}, trigger="other", path="send")


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({"rules": [], "more": 1}, ""),
        ({"rules": 7}, "/rules"),
        ({"rules": [7]}, "/rules/0"),
        ({"rules": [{"match": {"a": 1}, "path": "draft"}]}, "/rules/0/match"),
        ({"rules": [{"match": {"a": "b"}}]}, "/rules/0"),
        ({"rules": [{"match": {"a": "b"}, "trigger": "t", "path": "draft"}]}, "/rules/0"),
        ({"rules": [{"match": {"a": "b"}, "trigger": ["t"]}]}, "/rules/0"),
    ],
)
def test_rules_that_do_not_fit(document: Any, pointer: str) -> None:
    rules, faults = rules_read(document, paths=["draft"])
    assert (rules, [fault["pointer"] for fault in faults]) == ([], [pointer])


def said(evidence: Evidence, *, is_trigger: bool) -> Decision:
    rule = Rule(
        is_trigger=is_trigger,
        signal=signal_of("cost_per_task_usd"),
        compare="limit",
        limit=0.085,
        margin=None,
        window_s=900,
        min_n=30,
    )
    return decide(rule, evidence, now=NOW, queue_age_s=None, queue_limit_s=60)


@pytest.mark.parametrize("data_at", [None, NOW - timedelta(seconds=1), NOW - timedelta(hours=3)])
def test_a_trigger_trips_on_what_is_said_outside_whatever_our_own_data_say(
    data_at: datetime | None,
) -> None:
    started = NOW - timedelta(hours=4)
    own = Evidence(
        started_at=started,
        since=started,
        data_at=data_at,
        recent_n=400,
        candidate=Estimate(0.02, 0.019, 0.021, 400),
        outside="Grafana says so.",
    )
    assert said(own, is_trigger=True) == Decision(Word.TRIPPED, "Grafana says so.")
    # It is a trigger's: no criterion fails by it.
    assert said(own, is_trigger=False).word is not Word.FAILING


def test_a_mark_takes_holding_away_and_nothing_else() -> None:
    started = NOW - timedelta(hours=1)
    words = {}
    for name, value in (("good", 0.02), ("bad", 0.2)):
        for marked in ("", "Grafana says so."):
            evidence = Evidence(
                started_at=started,
                since=started,
                data_at=NOW - timedelta(seconds=1),
                recent_n=400,
                candidate=Estimate(value, value - 0.001, value + 0.001, 400),
                marked=marked,
            )
            words[name, bool(marked)] = said(evidence, is_trigger=False)
    assert {key: decision.word for key, decision in words.items()} == {
        ("good", False): Word.HOLDING,
        ("good", True): Word.UNDECIDED,
        ("bad", False): Word.FAILING,
        ("bad", True): Word.FAILING,
    }
    assert words["good", True].sentence.endswith("But the path is marked: Grafana says so.")
    assert words["good", True].value == 0.02


def fact(*, received_s: float, ended_s: float | None = None) -> OutsideFact:
    ended_at = None if ended_s is None else NOW + timedelta(seconds=ended_s)
    received_at = NOW + timedelta(seconds=received_s)
    return OutsideFact(1, 1, "slow", received_at, ended_at or received_at, ended_at, "So.")


@pytest.mark.parametrize(
    ("told", "since_s", "looked_s", "trips"),
    [
        (fact(received_s=5), 0, None, True),
        (fact(received_s=5), 0, 100, True),
        # Before the evidence starts: judged already, or not this rollout's.
        (fact(received_s=5), 5, None, False),
        # Came and went: seen while it fired, not seen, and told of by its end alone.
        (fact(received_s=5, ended_s=9), 0, 6, False),
        (fact(received_s=5, ended_s=9), 0, 4, True),
        (fact(received_s=5, ended_s=9), 0, None, True),
        (fact(received_s=5, ended_s=5), 0, None, False),
    ],
)
def test_when_it_trips(
    told: OutsideFact, since_s: float, looked_s: float | None, trips: bool
) -> None:
    looked_at = None if looked_s is None else NOW + timedelta(seconds=looked_s)
    since = NOW + timedelta(seconds=since_s)
    assert told.trips("slow", since=since, looked_at=looked_at) == trips
    assert not told.trips("other", since=since, looked_at=looked_at)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("\0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"alerts": st.lists(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(ALERT, JSON)))},
        optional={"version": JSON, "truncatedAlerts": JSON},
    )
    | JSON
)
def test_every_alert_is_read_or_named(document: Any) -> None:
    batch = batch_read(document, source="alertmanager")
    told = document.get("alerts") if isinstance(document, dict) else None
    whole = [fault for fault in batch.faults if "index" not in fault]
    if isinstance(told, list) and not whole:
        seen = {alert.index for alert in batch.alerts} | {fault["index"] for fault in batch.faults}
        assert seen == set(range(len(told)))
    else:
        assert len(whole) == 1


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("fingerprint", "a\0b", "/alerts/0/fingerprint"),
        ("fingerprint", 7, "/alerts/0/fingerprint"),
        ("labels", {"a": "b\0"}, "/alerts/0/labels"),
        ("annotations", [], "/alerts/0/annotations"),
        ("status", None, "/alerts/0/status"),
    ],
)
def test_what_cannot_be_kept_is_named(field: str, value: Any, pointer: str) -> None:
    batch = read({**ALERT, field: value})
    assert [fault["pointer"] for fault in batch.faults] == [pointer]
