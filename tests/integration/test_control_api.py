"""The story of control over the API alone: YAML, tokens where tokens may, persons where not."""

import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import yaml
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.expansions.models import ExpansionRequest
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Person
from rollout_console.containment.work import work_once
from rollout_console.core.heartbeats import WORKER
from rollout_console.exposure.models import ExposureVersion
from rollout_console.rollouts.models import Rollout
from signals.alerts.models import Alert
from tests.client import Workflow
from tests.factories import people, person, token
from tests.live import Console, Reply, console
from tests.matrix import written
from tests.plans import plan_document
from tests.stack import wait_until
from tests.story import run_item

__all__ = ["console"]

WORKFLOW = "support-reply"
SLUG = "support-reply-2026.11.2"
ROLLOUT = f"/rollouts/{SLUG}"
BAKE = timedelta(seconds=1)
FIRST = [("internal-ops", 0.9)]
SECOND = [("internal-ops", 1.0), ("eu-customers", 0.2)]
CLEAR = {"action": "clear_fallback", "reason": {"code": "quality"}}


def plan() -> dict[str, Any]:
    document = plan_document()
    document["workflow"]["hold_s"] = 1
    document["workflow"]["paths"][0]["fallbacks"]["manual"] = {}
    rollout = document["rollout"]
    for stage in rollout["stages"]:
        stage |= {"bake_s": BAKE.seconds, "min_runs": 50}
    rollout["stages"][1]["segments"][1]["share"] = 0.2
    rollout["criteria"].append(
        {
            "slug": "latency-fine",
            "path": "draft",
            "signal": "latency_p95_ms",
            "compare": "limit",
            "limit": 6000,
            "min_n": 20,
        }
    )
    narrow = {"kind": "contain_after_hold", "action": "narrow"}
    rollout["triggers"][0]["response"] = narrow
    return document


class Story:
    """Everybody's token, and what each step adds: to the audit, and to the exposure."""

    def __init__(self, console: Console) -> None:
        people()
        # An approver who may ask as well: the requester's own word has to be refused for itself.
        person("both", Role.APPROVER)
        person("both", Role.DEPUTY)
        self.console = console
        self.secrets = {
            "pipeline": token(Scope.RELEASE)[0],
            "robot": token(*Scope)[0],
            "ingest": token(Scope.INGEST)[0],
            "evaluate": token(Scope.EVALUATE)[0],
        }
        for name in ("owner", "deputy", "approver", "both"):
            self.secrets[name] = token(*Scope, of=Person.objects.get(username=name))[0]
        self.seen = self._audit()

    def send(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        return self.console.send(
            method, f"/api/v1{path}", body=body, token=self.secrets[who], headers=headers
        )

    def does(
        self, who: str, path: str, body: Any = None, *, status: int = 200, audit: list[str]
    ) -> Any:
        """Send a step and return its answer; it leaves exactly these entries in the audit."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        reply = self.send(who, "POST", path, body if body is not None else {}, **key)
        assert reply.status == status, (who, path, reply.status, reply.body)
        self.audited(*audit)
        return reply.json

    def refused(
        self, who: str, path: str, body: Any = None, *, status: int = 403, code: str = "not-allowed"
    ) -> Any:
        """Send a step that is refused, and that changes nothing at all."""
        before = written()
        key = {"Idempotency-Key": uuid.uuid4().hex}
        reply = self.send(who, "POST", path, body if body is not None else {}, **key)
        assert (reply.status, reply.json["type"]) == (status, f"/problems/{code}"), (who, path)
        assert written() == before
        return reply.json

    def audited(self, *actions: str) -> None:
        """Check what the audit got since it was last looked at."""
        now = self._audit()
        assert now - self.seen == Counter(actions)
        self.seen = now

    def stands(self, state: str, version: int, exposure: int, exposed: Any) -> None:
        """Check where the rollout is, by what a reader is told."""
        told = self.send("robot", "GET", ROLLOUT).json
        parts = [(part["segment"], part["share"]) for part in told["exposed"]]
        assert (told["state"], told["version"], parts) == (state, version, exposed)
        newest = self.send("robot", "GET", "/exposure/versions?limit=1").json["results"][0]
        assert newest["number"] == exposure

    def reports(self, *, good: bool, segments: tuple[str, ...] = ("internal-ops",)) -> None:
        """Report 120 runs by a token, and let a worker's rounds count and judge them.

        What is bad trips once the block of five seconds that it came in is over.
        """
        runs = [
            run_item(segment=segments[number % len(segments)], quality={"passed": good})
            for number in range(120)
        ]
        reply = self.send("ingest", "POST", "/runs", runs)
        assert (reply.status, reply.json["accepted"], reply.json["errors"]) == (202, 120, [])

        def judged() -> bool:
            self.round()
            return good or self.verdicts("trigger")["quality-low"] == "tripped"

        wait_until(judged, within_s=20, what="the round that judges them")

    def apply(self, document: dict[str, Any], *, by: str = "pipeline") -> Reply:
        text = yaml.safe_dump(document, sort_keys=False).encode()
        kind = {"Content-Type": "application/yaml"}
        return self.send(by, "PUT", f"/plans/{WORKFLOW}", text, **kind)

    def round(self) -> None:
        work_once(name=WORKER, periodic=True)

    def verdicts(self, kind: str) -> dict[str, str]:
        told = self.send("robot", "GET", f"{ROLLOUT}/verdicts").json["results"]
        return {row["guard"]: row["verdict"] for row in told if row["kind"] == kind}

    def ready_to_widen(self) -> None:
        """Let rounds go by until the bake of a second is over and every criterion holds."""

        def met() -> bool:
            self.round()
            since = Rollout.objects.get().bake_from
            baked = since is not None and timezone.now() >= since + BAKE
            return baked and set(self.verdicts("criterion").values()) == {"holding"}

        wait_until(met, within_s=20, what="the bake and every criterion")

    def _audit(self) -> Counter[str]:
        return Counter(AuditEntry.objects.values_list("action", flat=True))


@pytest.fixture
def story(console: Console) -> Story:
    return Story(console)


def apply_and_go_live(story: Story) -> dict[str, Any]:
    """From a plan with a gap to the first stage, by a token, then two persons; return the plan."""
    document = plan()
    points = document["workflow"]["paths"][0]["review"].pop("points")
    assert story.apply(document, by="evaluate").status == 403
    made = story.apply(document)
    assert (made.status, made.json["number"], made.json["rollout"]) == (201, 1, SLUG)
    story.audited("plan.applied", "release.registered")
    missing = story.refused("pipeline", f"{ROLLOUT}/ready", status=409, code="gate-not-passed")[
        "missing"
    ]
    assert missing == [
        {
            "item": "review",
            "detail": "“draft” names nothing that a person reviews.",
            "fix": "List under “review.points” of the path what a person looks at.",
        }
    ]
    document["workflow"]["paths"][0]["review"]["points"] = points
    changed = story.apply(document)
    assert (changed.status, changed.json["number"]) == (201, 2)
    story.audited("plan.applied")
    again = story.apply(document)
    assert (again.status, again.json["created"]) == (200, False)
    story.audited()

    exposure = ExposureVersion.objects.order_by("-number")[0].number
    ready = story.does("pipeline", f"{ROLLOUT}/ready", audit=["rollout.readied"])
    assert (ready["state"], ready["version"], ready["exposure_version"]) == ("ready", 3, exposure)
    for who in ("pipeline", "robot", "deputy"):
        story.refused(who, f"{ROLLOUT}/go-live")
    half = story.does("owner", f"{ROLLOUT}/go-live", status=202, audit=["rollout.confirmed"])
    assert (half["state"], half["waiting_for"]) == ("ready", ["approver"])
    # Pressing one's own half again is no second half.
    again = story.does("owner", f"{ROLLOUT}/go-live", status=202, audit=[])
    assert again["waiting_for"] == ["approver"]
    story.stands("ready", 3, exposure, [])
    live = story.does(
        "approver", f"{ROLLOUT}/go-live", audit=["rollout.confirmed", "rollout.went_live"]
    )
    assert (live["state"], live["version"], live["exposure_version"]) == ("live", 4, exposure + 1)
    assert story.does("approver", f"{ROLLOUT}/go-live", audit=[]) == live
    story.stands("live", 4, exposure + 1, FIRST)
    return document


def ask(story: Story, who: str = "owner") -> dict[str, Any]:
    asked: dict[str, Any] = story.does(
        who, f"{ROLLOUT}/expansion-requests", status=201, audit=["expansion.requested"]
    )
    assert (asked["state"], asked["stage"], asked["approvals_needed"]) == ("pending", 2, 1)
    return asked


def test_control_over_the_api_alone(console: Console, story: Story) -> None:
    workflow = Workflow(console.url, story.secrets["evaluate"], domain="control-api")

    def served(arm: str, mode: str = "normal", **context: str) -> None:
        """Wait until somebody gets what was published; the console learns of it by itself."""
        wanted = (arm, mode)

        def look() -> bool:
            found = [workflow.ask(WORKFLOW, str(user), **context) for user in range(40)]
            told = {(value.get("arm"), value.get("mode")) for value in found}
            # A share leaves some of a segment with the stable release, in any case.
            return told == {wanted} if arm == "stable" else wanted in told

        wait_until(look, within_s=10, what=f"{wanted} for {context}")

    apply_and_go_live(story)
    number = ExposureVersion.objects.order_by("-number")[0].number
    served("candidate", team="internal")
    served("stable", customer_segment="eu")

    # The first stage, until there is evidence to ask on.
    early = story.refused(
        "owner", f"{ROLLOUT}/expansion-requests", status=409, code="expansion-blocked"
    )
    assert "At least 50 runs of the candidate: 0 of 50 came on this stage." in early["missing"]
    story.reports(good=True)
    story.ready_to_widen()
    assert story.verdicts("criterion") == {
        "cost-inside": "holding",
        "latency-fine": "holding",
        "quality-holds": "holding",
    }
    story.audited()

    story.refused("robot", f"{ROLLOUT}/expansion-requests")
    asked = ask(story)
    address = f"/expansion-requests/{asked['id']}"
    shown = story.send("approver", "GET", address).json
    word = {"decision": "approve", "reason": "120 of 120 passed", "digest": shown["digest"]}
    # By no token, not by who asked, not on other evidence, and not started before.
    story.refused("robot", f"{address}/decision", word)
    story.refused("owner", f"{address}/decision", word)
    story.refused(
        "approver",
        f"{address}/decision",
        {**word, "digest": "0" * 64},
        status=409,
        code="evidence-changed",
    )
    story.refused("owner", f"{address}/start", status=409, code="expansion-not-approved")
    approved = story.does("approver", f"{address}/decision", word, audit=["expansion.approved"])
    assert (approved["state"], approved["approvals"]) == ("approved", 1)
    # Not twice: the same word changes nothing, another person's comes after the last.
    assert story.does("approver", f"{address}/decision", word, audit=[])["approvals"] == 1
    story.refused("both", f"{address}/decision", word, status=409, code="already-decided")
    story.stands("live", 4, number, FIRST)
    for who in ("robot", "approver", "deputy"):
        story.refused(who, f"{address}/start")
    started = story.does("owner", f"{address}/start", audit=["rollout.expanded"])
    assert (started["state"], started["started_by"]) == ("started", "owner")
    assert started["exposure_version"] == number + 1
    assert story.does("owner", f"{address}/start", audit=[]) == started
    story.refused("both", f"{address}/decision", word, status=409, code="expansion-closed")
    story.stands("live", 5, number + 1, SECOND)
    served("candidate", customer_segment="eu")

    # It hurts; nobody decides; when its time has come the clock narrows to the first stage.
    story.reports(good=False, segments=("internal-ops", "eu-customers"))
    story.audited("alert.opened", "incident.opened")
    (alert,) = story.send("robot", "GET", "/alerts").json["results"]
    assert (alert["guard"], alert["state"], alert["owner"]) == ("quality-low", "open", "owner")
    assert alert["due_action"] == {
        "action": "narrow",
        "path": "draft",
        "segment": None,
        "to": {"internal-ops": "0.9"},
        "frozen": True,
    }
    assert alert["due_at"] is not None
    story.stands("live", 5, number + 1, SECOND)

    def narrowed() -> bool:
        story.round()
        return Rollout.objects.get().version == 6

    wait_until(narrowed, within_s=20, what="the clock to narrow")
    story.audited("alert.half_time", "rollout.narrowed")
    entry = AuditEntry.objects.get(action="rollout.narrowed")
    assert (entry.actor, entry.actor_kind, entry.reason["code"]) == ("console", "system", "quality")
    story.stands("live", 6, number + 2, FIRST)
    served("stable", customer_segment="eu")
    story.round()
    story.audited()

    _fall_back_and_clear(story, served, number + 2)

    rollback = {"action": "rollback", "reason": {"code": "quality"}}
    done = story.does("owner", f"{ROLLOUT}/containment", rollback, audit=["rollout.rolled_back"])
    assert done == {
        "rollout": SLUG,
        "version": 9,
        "exposure_version": number + 5,
        "state": "rolled_back",
        "changed_meanwhile": [],
    }
    assert story.does("owner", f"{ROLLOUT}/containment", rollback, audit=[]) == done
    story.stands("rolled_back", 9, number + 5, [])
    served("stable", team="internal")
    value = workflow.ask(WORKFLOW, team="internal")
    assert (value["release"], value["mode"]) == ("2026.10.4", "normal")


def _fall_back_and_clear(story: Story, served: Callable[..., None], number: int) -> None:
    """A token may fall back; to clear takes the owner and a second person while it hurts."""
    fallback = {"action": "fallback", "mode": "human_review", "reason": {"code": "quality"}}
    address = f"{ROLLOUT}/containment"
    fell = story.does("robot", address, fallback, audit=["rollout.fell_back"])
    assert (fell["state"], fell["version"], fell["exposure_version"]) == ("live", 7, number + 1)
    served("candidate", "human_review", team="internal")
    story.refused("robot", address, {"action": "resume", **_seen(7)})
    story.refused("robot", address, {**CLEAR, **_seen(7)})
    story.refused("owner", address, {**CLEAR, **_seen(6)}, status=409, code="version-moved")

    # A round beside it: the trigger says what it says now.
    story.reports(good=False)
    assert story.verdicts("trigger")["quality-low"] == "tripped"
    half = story.does(
        "owner", address, {**CLEAR, **_seen(7)}, status=202, audit=["rollout.confirmed"]
    )
    assert half["waiting_for"] == ["approver", "deputy"]
    story.stands("live", 7, number + 1, FIRST)
    cleared = story.does(
        "deputy",
        address,
        {**CLEAR, **_seen(7)},
        audit=["rollout.confirmed", "rollout.fallback_cleared"],
    )
    assert (cleared["version"], cleared["exposure_version"]) == (8, number + 2)
    story.stands("live", 8, number + 2, FIRST)
    served("candidate", team="internal")


def _seen(version: int) -> dict[str, Any]:
    return {"expected_version": version, "reason": {"code": "quality"}}


def word_on(request: dict[str, Any]) -> dict[str, str]:
    return {"decision": "approve", "digest": request["digest"]}


def test_nothing_is_approvable_on_changed_evidence_or_by_who_asked(story: Story) -> None:
    document = apply_and_go_live(story)
    story.reports(good=True)
    story.ready_to_widen()
    story.audited()

    # What is approved does not start once the plan is another, even a stricter one.
    first = ask(story)
    old = f"/expansion-requests/{first['id']}"
    story.does("approver", f"{old}/decision", word_on(first), audit=["expansion.approved"])
    document["rollout"]["triggers"][1]["limit"] = 5000
    assert story.apply(document).json["number"] == 3
    story.audited("plan.applied")
    void = story.does("owner", f"{old}/start", status=409, audit=["expansion.voided"])
    assert (void["type"], void["state"]) == ("/problems/expansion-closed", "void")
    assert "Since it was asked for, the plan changed." in void["detail"]
    story.refused("owner", f"{old}/start", status=409, code="expansion-closed")

    # Who may approve and asked may not approve that.
    story.ready_to_widen()
    own = ask(story, "both")
    address = f"/expansion-requests/{own['id']}"
    told = story.refused("both", f"{address}/decision", word_on(own), code="approver-is-requester")
    assert "Ask a colleague" in told["detail"]
    # Nor does the digest of what was shown before go for what is shown now.
    story.refused(
        "approver", f"{address}/decision", word_on(first), status=409, code="evidence-changed"
    )

    # A trigger trips while it waits: the watch closes it, and says so once.
    story.reports(good=False)
    story.audited("alert.opened", "incident.opened", "expansion.voided")
    for who, step, body in (("approver", "decision", word_on(own)), ("owner", "start", {})):
        closed = story.refused(who, f"{address}/{step}", body, status=409, code="expansion-closed")
        assert "Since it was asked for, a trigger tripped." in closed["detail"]
    assert Rollout.objects.get().stage == 1


def test_nothing_is_approvable_late(story: Story) -> None:
    apply_and_go_live(story)
    story.reports(good=True)
    story.ready_to_widen()
    story.audited()
    asked = ask(story)
    request = ExpansionRequest.objects.get(pk=asked["id"])
    ExpansionRequest.objects.update(expires_at=request.at)
    word = word_on(asked)
    address = f"/expansion-requests/{asked['id']}"

    # The refusal writes down that it is over, once.
    late = story.does(
        "approver", f"{address}/decision", word, status=409, audit=["expansion.expired"]
    )
    assert late["type"] == "/problems/expansion-closed"
    story.refused("approver", f"{address}/decision", word, status=409, code="expansion-closed")
    story.refused("owner", f"{address}/start", status=409, code="expansion-closed")
    assert not Alert.objects.exists()
    assert Rollout.objects.get().stage == 1
