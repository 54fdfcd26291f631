"""Alerts of Alertmanager and Grafana: from their bodies to alert, clock and containment."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Scope
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow, WorkflowPath
from rollout_console.containment.clock import alerts_contain_due
from rollout_console.core.models import OutboxEvent
from rollout_console.rollouts.models import Rollout
from rollout_console.rollouts.states import RolloutState
from signals.alerts.models import Alert
from signals.alerts.services import StillTripped, alert_resolve, guards_watch
from signals.guards.models import Guard, Verdict, VerdictChange
from signals.guards.services import guards_look
from signals.outside.models import OutsideAlert
from tests.factories import principal, ripen, rollout_at, token
from tests.matrix import logged_in

pytestmark = pytest.mark.django_db

STARTED = "2026-11-24T09:52:26.739266876+02:00"
STARTED_AT = datetime(2026, 11, 24, 7, 52, 26, 739266, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"


@pytest.fixture
def live() -> Rollout:
    rollout = rollout_at(RolloutState.LIVE)
    Guard.objects.filter(slug="slow").update(
        response={"kind": "contain_after_hold", "action": "rollback"}
    )
    Guard.objects.update(evidence_from=timezone.now() - timedelta(minutes=5))
    return rollout


def fired(status: str = "firing", **fields: Any) -> dict[str, Any]:
    labels = {
        "alertname": "ReplySlow",
        "instance": "replies-1:9100",
        "job": "replies",
        "severity": "critical",
        "rollout_workflow": "support-reply",
        "rollout_trigger": "slow",
        **fields.pop("labels", {}),
    }
    return {
        "status": status,
        "labels": {name: value for name, value in labels.items() if value is not None},
        "annotations": {
            "summary": "p95 of replies above 6 s for 5 minutes.",
            "description": "See the runbook.",
            **fields.pop("annotations", {}),
        },
        "startsAt": STARTED,
        "endsAt": NEVER if status == "firing" else "2026-11-24T10:01:00Z",
        "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up&g0.tab=1",
        "fingerprint": "1a30ba71cca2921f",
        **fields,
    }


def group(*alerts: Any, **fields: Any) -> dict[str, Any]:
    """A body as Alertmanager sends it."""
    return {
        "receiver": "rollout-console",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {"alertname": "ReplySlow"},
        "commonLabels": {"alertname": "ReplySlow", "job": "replies"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "version": "4",
        "groupKey": '{}/{severity="critical"}:{alertname="ReplySlow"}',
        "truncatedAlerts": 0,
        **fields,
    }


def grafana(*alerts: dict[str, Any]) -> dict[str, Any]:
    """A body as Grafana sends it."""
    more = {"silenceURL": "", "dashboardURL": "", "panelURL": "", "values": {"B": 44.2, "C": 1}}
    return {
        **group(*({**alert, **more} for alert in alerts)),
        "version": "1",
        "orgId": 1,
        "title": "[FIRING:1] ReplySlow",
        "state": "alerting",
        "message": "**Firing**",
    }


def send(
    body: Any, *, source: str = "alertmanager", scope: Scope = Scope.INGEST, **limits: Any
) -> Any:
    secret, _ = token(scope, **limits)
    return Client().post(
        f"/api/v1/inbound/{source}",
        json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )


def took(body: Any, **how: Any) -> dict[str, Any]:
    response = send(body, **how)
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


def verdict(slug: str) -> Verdict:
    return Verdict.objects.get(guard__slug=slug, guard__retired_at=None)


def test_an_alert_trips_its_trigger_and_is_contained_like_our_own(live: Rollout) -> None:
    assert took(group(fired())) == {
        "began": 1,
        "repeated": 0,
        "ended": 0,
        "truncated": 0,
        "errors": [],
    }
    now = timezone.now()
    assert guards_watch(now=now) == 1

    said = verdict("slow")
    assert (said.verdict, said.value) == ("tripped", None)
    assert said.sentence == (
        "Alertmanager says that ReplySlow fires since 2026-11-24 07:52:26 UTC: p95 of replies above"
        " 6 s for 5 minutes."
    )
    alert = Alert.objects.get()
    assert (alert.sentence, alert.owner.username) == (said.sentence, "owner")
    assert alert.due_at == now + timedelta(seconds=60)
    assert alert.due_action is not None
    assert alert.due_action["action"] == "rollback"
    event = OutboxEvent.objects.get(type="alert.opened")
    assert event.data["sentence"] == said.sentence

    alerts_contain_due(now=now + timedelta(seconds=60))
    live.refresh_from_db()
    assert (live.state, live.state_by) == ("rolled_back", "console")
    began = AuditEntry.objects.get(action="outside_alert.began")
    assert began.actor_kind == "token"
    assert began.data["trigger"] == "slow"
    assert AuditEntry.objects.get(action="rollout.rolled_back").actor_kind == "system"


def test_what_is_sent_again_counts_once_and_its_end_is_no_verdict_of_ours(live: Rollout) -> None:
    for _ in range(2):
        took(group(fired(), fired()))
        guards_watch(now=timezone.now())
    assert Alert.objects.count() == 1
    row = OutsideAlert.objects.get()
    assert (row.times, row.started_at) == (4, STARTED_AT)
    assert AuditEntry.objects.filter(action="outside_alert.began").count() == 1

    assert took(group(fired("resolved"), status="resolved"))["ended"] == 1
    # Sent late, or by the other one of a pair: the same start is the same alert.
    assert took(group(fired()))["repeated"] == 1
    assert took(group(fired("resolved"), status="resolved"))["repeated"] == 1
    row.refresh_from_db()
    assert row.ended_at is not None
    guards_watch(now=timezone.now() + timedelta(seconds=1))
    # Its end says nothing of our own signal, on which no task has reported.
    assert verdict("slow").verdict == "blind"
    # The alert stays open until somebody says what it was.
    assert Alert.objects.get().state == "open"
    assert took(group(fired(startsAt="2026-11-24T12:00:00Z")))["began"] == 1


def test_one_that_came_and_went_between_two_looks_trips_all_the_same(live: Rollout) -> None:
    guards_watch(now=timezone.now())
    took(group(fired()))
    took(group(fired("resolved")))

    assert guards_watch(now=timezone.now()) == 1
    assert guards_watch(now=timezone.now() + timedelta(seconds=1)) == 0
    words = VerdictChange.objects.filter(guard__slug="slow").order_by("pk")
    assert list(words.values_list("verdict", flat=True))[-2:] == ["tripped", "blind"]


def test_an_end_that_arrives_first_lets_a_late_start_begin_nothing(live: Rollout) -> None:
    assert took(group(fired("resolved")))["ended"] == 1
    assert took(group(fired()))["repeated"] == 1
    guards_watch(now=timezone.now())
    assert not Alert.objects.exists()


def test_it_resolves_only_as_the_rules_allow(live: Rollout) -> None:
    took(group(fired()))
    guards_watch(now=timezone.now())
    alert = Alert.objects.get()

    def resolve(*, was_right: bool) -> None:
        alert_resolve(
            alert_id=alert.pk,
            was_right=was_right,
            note="",
            principal=principal("owner"),
            now=timezone.now(),
        )

    with pytest.raises(StillTripped):
        resolve(was_right=True)
    resolve(was_right=False)
    # Still firing outside, and said to be wrong: it opens no second one until it begins anew.
    guards_watch(now=timezone.now())
    assert not Alert.objects.exclude(state="resolved").exists()
    assert verdict("slow").verdict != "tripped"
    took(group(fired(startsAt="2026-11-24T12:00:00Z")))
    guards_watch(now=timezone.now())
    assert Alert.objects.exclude(state="resolved").count() == 1


def test_no_criterion_holds_while_its_path_is_marked(live: Rollout) -> None:
    ripen(live)
    guards_look(now=timezone.now(), reread=True)
    assert verdict("cost-inside").verdict == "holding"

    mark: dict[str, Any] = {"labels": {"rollout_trigger": None, "rollout_path": "draft"}}
    took(grafana(fired(**mark)), source="grafana")
    # Long before the criterion would be read again by itself.
    guards_watch(now=timezone.now())
    said = verdict("cost-inside")
    assert said.verdict == "undecided"
    assert said.sentence.endswith(
        "But the path is marked: Grafana says that ReplySlow fires since 2026-11-24 07:52:26 UTC:"
        " p95 of replies above 6 s for 5 minutes."
    )
    assert not Alert.objects.exists()

    took(grafana(fired("resolved", **mark)), source="grafana")
    guards_watch(now=timezone.now())
    assert verdict("cost-inside").verdict == "holding"


def test_no_data_marks_and_never_ends_anything(live: Rollout) -> None:
    nothing = fired(
        labels={"alertname": "DatasourceNoData", "rulename": "ReplySlow"}, fingerprint="0d"
    )
    took(grafana(nothing), source="grafana")
    guards_watch(now=timezone.now())
    # To know nothing is no harm seen, and no criterion holds on it.
    assert not Alert.objects.exists()
    assert OutsideAlert.objects.get().trigger == ""

    took(grafana(fired()), source="grafana")
    gone = fired("resolved", annotations={"grafana_state_reason": "MissingSeries"})
    assert took(grafana(gone), source="grafana")["repeated"] == 1
    row = OutsideAlert.objects.get(fingerprint="1a30ba71cca2921f")
    assert row.ended_at is None
    assert row.silent_at is not None
    assert guards_watch(now=timezone.now()) == 1
    assert "it has no data of it any more" in verdict("slow").sentence

    client = logged_in("owner")
    ended = client.post(
        f"/api/v1/inbound/alerts/{row.pk}/end", {"reason": "gone"}, content_type="application/json"
    )
    assert ended.status_code == 200
    assert ended.json()["ended_by"] == "owner"
    listed = client.get("/api/v1/inbound/alerts").json()["results"]
    assert [each["name"] for each in listed] == ["ReplySlow (DatasourceNoData)"]


def test_a_mapping_names_the_trigger_for_those_who_cannot_label(live: Rollout) -> None:
    secret, _ = token(Scope.RELEASE)
    address = "/api/v1/workflows/support-reply/inbound-mapping"
    rules = {
        "rules": [
            {"match": {"job": "replies", "severity": "critical"}, "trigger": "slow"},
            {"match": {"job": "replies"}, "path": "draft"},
            {"match": {"job": "tomorrow"}, "trigger": "later"},
        ]
    }

    def put(body: Any) -> Any:
        return Client().put(
            address,
            json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Bearer {secret}"},
        )

    assert put(rules).status_code == 201
    again = put(rules)
    assert (again.status_code, again.json()["triggers_missing"]) == (200, ["later"])
    bare = {"rollout_workflow": None, "rollout_trigger": None}
    took(group(fired(labels=bare), fired(labels={**bare, "severity": "low"}, fingerprint="2")))
    assert list(OutsideAlert.objects.order_by("pk").values_list("trigger", flat=True)) == [
        "slow",
        "",
    ]
    refused = put({"rules": [{"match": {}, "path": "draft"}, {"match": {"a": "b"}, "path": "x"}]})
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == [
        "/rules/0/match",
        "/rules/1/path",
    ]


def test_good_alerts_of_a_bad_batch_are_kept_and_the_others_named(live: Rollout) -> None:
    body = group(
        fired(labels={"rollout_trigger": "nobody"}),
        fired(),
        fired(status="flapping"),
        fired(labels={"rollout_workflow": "elsewhere"}),
        fired(startsAt="yesterday"),
        "text",
        fired(labels={"rollout_trigger": None}),
        truncatedAlerts=3,
    )
    told = took(body)
    assert (told["began"], told["truncated"]) == (1, 3)
    assert [(fault["index"], fault["pointer"]) for fault in told["errors"]] == [
        (0, "/alerts/0/labels"),
        (2, "/alerts/2/status"),
        (3, "/alerts/3/labels"),
        (4, "/alerts/4/startsAt"),
        (5, "/alerts/5"),
        (6, "/alerts/6/labels"),
    ]
    triggers = ", ".join(
        sorted(Guard.objects.filter(kind="trigger").values_list("slug", flat=True))
    )
    assert told["errors"][0]["detail"] == (
        f"ReplySlow: no plan of support-reply has a trigger “nobody”; there is: {triggers}."
    )


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (group(fired(labels={"rollout_trigger": "nobody"})), "alert-unmapped", "/alerts/0/labels"),
        (group(fired(), version="3"), "invalid-input", "/version"),
        ([], "invalid-input", ""),
        ({"alerts": 7}, "invalid-input", "/alerts"),
        (group(fired(labels={"job": 7})), "invalid-input", "/alerts/0/labels"),
        (group(fired(startsAt=NEVER)), "invalid-input", "/alerts/0/startsAt"),
    ],
)
def test_a_batch_without_a_usable_alert_is_refused_and_keeps_nothing(
    live: Rollout, body: Any, code: str, pointer: str
) -> None:
    response = send(body)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == f"/problems/{code}"
    assert [fault["pointer"] for fault in response.json()["errors"]] == [pointer]
    assert not OutsideAlert.objects.exists()


def test_an_empty_group_is_no_error(live: Rollout) -> None:
    assert took(group())["began"] == 0


def test_a_token_sends_for_its_own_workflows_alone(live: Rollout) -> None:
    rollout_at(RolloutState.LIVE, workflow="claims-intake")
    other = Workflow.objects.get(slug="claims-intake")
    assert send(group(fired()), workflows=(other,)).status_code == 404
    bare = {"rollout_workflow": None, "rollout_trigger": None}
    assert send(group(fired(labels=bare)), scope=Scope.READ).status_code == 403
    assert not OutsideAlert.objects.exists()


def test_a_link_that_is_no_link_is_left_out(live: Rollout) -> None:
    took(group(fired(generatorURL="javascript:alert(1)")))
    assert OutsideAlert.objects.get().link == ""
    assert WorkflowPath.objects.get().outside_alerts.get().trigger == "slow"


def test_the_cockpit_shows_what_fires_and_the_owner_ends_it(live: Rollout) -> None:
    took(group(fired()))
    guards_watch(now=timezone.now())
    page = logged_in("owner").get(f"/rollouts/{live.slug}/").content.decode()
    assert "Alertmanager says that ReplySlow fires since 2026-11-24 07:52:26 UTC" in page
    assert "Trips slow" in page
    assert 'data-verdict="tripped" data-guard="slow"' in page

    row = OutsideAlert.objects.get()
    url = f"/rollouts/{live.slug}/outside/{row.pk}/end/"
    for name, reason in (("viewer", "over"), ("owner", " ")):
        logged_in(name).post(url, {"reason": reason})
        row.refresh_from_db()
        assert row.ended_at is None
    logged_in("owner").post(url, {"reason": "Its Alertmanager is gone."})
    row.refresh_from_db()
    assert (row.ended_by, row.end_reason) == ("owner", "Its Alertmanager is gone.")
    assert 'id="outside"' not in logged_in("owner").get(f"/rollouts/{live.slug}/").content.decode()
