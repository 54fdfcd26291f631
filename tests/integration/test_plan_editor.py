"""The plan editor as a browser without scripts uses it."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.authority.matrix import Role
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.rollouts.models import PlanChange, PlanDraft, PlanVersion
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load
from rollout_console.rollouts.states import RolloutState
from rollout_console.web.plan_steps import STEPS
from tests.factories import people, person, principal, rollout_at
from tests.forms import form_of
from tests.matrix import logged_in
from tests.plans import plan_document
from tests.unit.test_plan_json_schema import whole

pytestmark = pytest.mark.django_db

WORKFLOW = "support-reply"
NOTED = "# reviewed each quarter\n" + yaml_dump(whole()).replace(
    "  hold_s: 60\n", "  hold_s: 60  # it sends mail\n"
)


@pytest.fixture
def planned() -> Client:
    """A workflow whose plan came as a file with comments; its owner is logged in."""
    people()
    plan_apply_and_publish(
        document=yaml_load(NOTED).value,
        text=NOTED,
        principal=principal_of_all(),
        now=timezone.now(),
    )
    return logged_in("owner")


def principal_of_all() -> Any:
    person("planner", Role.OWNER)
    return principal("planner")


def url(step: str, workflow: str | None = WORKFLOW) -> str:
    if workflow is None:
        return reverse("web:plan_new", args=[step])
    return reverse("web:plan_edit", args=[workflow, step])


def opened(client: Client, step: str, workflow: str | None = WORKFLOW) -> dict[str, list[str]]:
    page = client.get(url(step, workflow))
    assert page.status_code == 200
    return form_of(page.content.decode(), "plan-form")


def press(client: Client, step: str, do: str, workflow: str | None = WORKFLOW) -> Any:
    """Open a step and press a button."""
    return put(client, step, do, workflow, values={})


def put(
    client: Client,
    step: str,
    do: str = "save",
    workflow: str | None = WORKFLOW,
    *,
    values: dict[str, Any],
) -> Any:
    """Open a step, fill in inputs by name (None unticks one), and press a button."""
    form = opened(client, step, workflow)
    for name, value in values.items():
        if value is None:
            form.pop(name, None)
        else:
            form[name] = value if isinstance(value, list) else [value]
    return client.post(url(step, workflow), {**form, "do": do})


def draft() -> PlanDraft:
    return PlanDraft.objects.get(workflow=WORKFLOW)


def document() -> Any:
    return yaml_load(draft().text).value


def test_saving_each_step_untouched_changes_neither_plan_nor_file(planned: Client) -> None:
    for step in STEPS:
        answer = press(planned, step.slug, "save")
        assert answer.status_code == 302, step.slug

        held = draft()
        assert document() == yaml_load(NOTED).value, step.slug
        assert held.text == NOTED, step.slug


def test_opening_the_editor_keeps_nothing(planned: Client) -> None:
    opened(planned, "paths")
    assert not PlanDraft.objects.exists()


def test_a_changed_number_changes_its_line_and_keeps_the_comment(planned: Client) -> None:
    put(planned, "workflow", values={"/workflow/hold_s": "45"})

    assert draft().text == NOTED.replace("hold_s: 60  # it", "hold_s: 45  # it")
    assert "45" in opened(planned, "workflow")["/workflow/hold_s"]
    assert PlanVersion.objects.count() == 1


def test_what_does_not_fit_is_kept_and_its_field_says_why(planned: Client) -> None:
    answer = put(
        planned,
        "paths",
        "next",
        values={"/workflow/paths/0/limits/latency_p95_ms": "fast", "/workflow/paths/0/name": "N"},
    )
    assert answer["Location"] == url("segments")

    page = planned.get(url("paths")).content.decode()

    form = form_of(page, "plan-form")
    assert form["/workflow/paths/0/limits/latency_p95_ms"] == ["fast"]
    assert form["/workflow/paths/0/name"] == ["N"]
    field = page[page.index('id="f-workflow-paths-0-limits-latency_p95_ms"') :]
    field = field[: field.index('<div class="field')]
    assert 'aria-invalid="true"' in field
    assert "“latency_p95_ms” must be a number, not the text “fast”." in field


def test_rows_are_added_moved_and_removed(planned: Client) -> None:
    def stages() -> list[str]:
        return [row["slug"] for row in document()["rollout"]["stages"]]

    answer = press(planned, "rollout", "add:/rollout/stages")
    assert answer["Location"] == url("rollout") + "#r-rollout-stages-2"
    put(planned, "rollout", values={"/rollout/stages/2/slug": "all"})
    press(planned, "rollout", "up:/rollout/stages/2")
    assert stages() == ["first", "all", "eu"]
    press(planned, "rollout", "add:/rollout/stages/0/segments")
    assert len(document()["rollout"]["stages"][0]["segments"]) == 2
    press(planned, "rollout", "remove:/rollout/stages/0/segments/1")
    press(planned, "rollout", "remove:/rollout/stages/1")
    assert stages() == ["first", "eu"]
    assert document() == yaml_load(NOTED).value

    for odd in ("add:/rollout", "remove:/rollout/stages/9", "remove:/version", "up:x", "go:no"):
        assert press(planned, "rollout", odd).status_code == 302
    assert document() == yaml_load(NOTED).value


def test_a_fallback_mode_is_declared_and_taken_back(planned: Client) -> None:
    base = "/workflow/paths/0/fallbacks"
    values = {
        f"{base}/manual": None,
        f"{base}/read_only/when/confidence_below": "",
        f"{base}/human_review/when/risk": "high",
    }
    put(planned, "paths", values=values)

    fallbacks = document()["workflow"]["paths"][0]["fallbacks"]
    assert "manual" not in fallbacks
    assert fallbacks["read_only"] == {}
    assert fallbacks["human_review"] == {"when": {"input_condition": "ambiguous", "risk": "high"}}
    put(planned, "paths", values={f"{base}/manual": "on"})
    assert document()["workflow"]["paths"][0]["fallbacks"]["manual"] == {}


def test_a_rule_is_written_in_three_fields_or_as_jsonlogic(planned: Client) -> None:
    base = "/workflow/segments/1/rule"

    def rule() -> Any:
        return document()["workflow"]["segments"][1]["rule"]

    put(planned, "segments", values={f"{base}:operator": "in", f"{base}:value": "eu, uk"})
    assert rule() == {"in": [{"var": "customer_segment"}, ["eu", "uk"]]}
    put(planned, "segments", values={f"{base}:how": "all"})
    assert rule() is True
    logic = '{"and": [{"==": [{"var": "a"}, 1]}, {"!": [{"var": "b"}]}]}'
    put(planned, "segments", values={f"{base}:how": "logic", base: logic})
    assert rule() == {"and": [{"==": [{"var": "a"}, 1]}, {"!": [{"var": "b"}]}]}
    put(planned, "segments", values={base: '{"and": ['})
    assert rule() == '{"and": ['
    page = planned.get(url("segments")).content.decode()
    assert form_of(page, "plan-form")[base] == ['{"and": [']
    assert "A rule is an operator over the context" in page
    put(planned, "segments", values={f"{base}:how": "simple", f"{base}:value": "eu"})
    assert "Name the member of the context" in planned.get(url("segments")).content.decode()


def test_without_a_rollout_its_steps_wait(planned: Client) -> None:
    put(planned, "rollout", values={"/rollout": None})

    assert "rollout" not in document()
    assert "The plan has no rollout yet" in planned.get(url("triggers")).content.decode()
    put(planned, "rollout", values={"/rollout": "on"})
    assert document()["rollout"]["stable"] is None


def test_the_file_is_edited_as_text_and_the_form_follows(planned: Client) -> None:
    text = NOTED.replace("name: Support reply", "name: Replies  # shorter")
    form = form_of(planned.get(url("paths") + "?file=edit").content.decode(), "plan-text")
    assert form["text"] == [NOTED.replace("\n", "\r\n")]

    planned.post(url("paths"), {**form, "text": text.replace("\n", "\r\n"), "do": "text"})

    assert draft().text == text
    assert opened(planned, "workflow")["/workflow/name"] == ["Replies"]
    planned.post(
        url("paths"),
        {**form, "revision": draft().revision, "text": "workflow: [\n", "do": "text"},
    )
    held = draft()
    assert (held.text, held.typed) == (text, "workflow: [\n")
    page = planned.get(url("paths")).content.decode()
    assert "Line 2: Not YAML" in page
    assert form_of(page, "plan-text")["text"] == ["workflow: [\r\n"]
    assert press(planned, "review", "apply").status_code == 422
    assert PlanVersion.objects.count() == 1
    planned.post(url("paths"), {**form, "revision": draft().revision, "do": "drop"})
    assert (draft().text, draft().typed) == (text, "")
    press(planned, "review", "apply")
    assert PlanVersion.objects.get(number=2).text == text


def test_another_windows_save_is_not_overwritten(planned: Client) -> None:
    mine, other = opened(planned, "workflow"), opened(planned, "workflow")
    planned.post(url("workflow"), {**other, "/workflow/name": "Other", "do": "save"})

    answer = planned.post(url("workflow"), {**mine, "/workflow/name": "Mine", "do": "save"})

    assert answer.status_code == 409
    page = answer.content.decode()
    assert "Another window saved this draft" in page
    form = form_of(page, "plan-form")
    assert form["/workflow/name"] == ["Mine"]
    assert document()["workflow"]["name"] == "Other"
    planned.post(url("workflow"), {**form, "do": "save"})
    assert document()["workflow"]["name"] == "Mine"


def test_a_page_saves_again_and_again_in_between(planned: Client) -> None:
    form = opened(planned, "workflow")
    for name in ("A", "B"):
        answer = planned.post(
            url("workflow"),
            {**form, "/workflow/name": name, "do": "save"},
            headers={"HX-Request": "true"},
        )
        assert answer.status_code == 200
        page = answer.content.decode()
        assert page.lstrip().startswith('<section class="card" id="plan-file"')
        assert f"<i>name</i>: {name}" in page
    assert document()["workflow"]["name"] == "B"


def test_applying_makes_it_the_plan_byte_for_byte(planned: Client) -> None:
    put(planned, "workflow", values={"/workflow/hold_s": "45"})
    text = draft().text
    review = planned.get(url("review")).content.decode()
    assert "workflow.hold_s: 60 → 45" in review

    answer = press(planned, "review", "apply")

    assert answer["Location"] == reverse("web:plan_workflow", args=[WORKFLOW])
    plan = PlanVersion.objects.get(number=2)
    assert (plan.text, plan.applied_by) == (text, "owner")
    assert not PlanDraft.objects.exists()
    assert Workflow.objects.get().hold_s == 45
    exported = planned.get(reverse("web:plan_file", args=[WORKFLOW]))
    assert exported.content.decode() == text


def test_a_plan_with_faults_is_not_applied_and_links_to_them(planned: Client) -> None:
    put(planned, "triggers", values={"/rollout/triggers/0/signal": ""})

    answer = press(planned, "review", "apply")

    assert answer.status_code == 422
    page = answer.content.decode()
    assert f'href="{url("triggers")}#f-rollout-triggers-0-signal"' in page
    assert "A trigger needs “signal”." in page
    assert PlanVersion.objects.count() == 1
    assert not AuditEntry.objects.filter(action="plan.applied", actor="owner").exists()


def test_a_conflict_with_what_is_stored_shows_at_its_field(planned: Client) -> None:
    put(planned, "rollout", values={"/rollout/stable": "2026.9.9"})

    page = planned.get(url("rollout")).content.decode()

    field = page[page.index('id="f-rollout-stable"') :]
    assert "The stable release of “draft” is 2026.10.4" in field[: field.index('<div class="field')]
    assert press(planned, "review", "apply").status_code == 422
    assert PlanVersion.objects.count() == 1


def test_unknown_people_show_at_their_field(planned: Client) -> None:
    put(planned, "workflow", values={"/workflow/deputy": "nobody"})
    assert "There is no person “nobody”" in planned.get(url("workflow")).content.decode()


def test_a_plan_that_moved_meanwhile_is_not_taken_back_unseen(planned: Client) -> None:
    put(planned, "workflow", values={"/workflow/hold_s": "45"})
    other = whole()
    other["workflow"]["name"] = "Replies"
    plan_apply_and_publish(
        document=other, text="", principal=principal("planner"), now=timezone.now()
    )

    assert press(planned, "review", "apply").status_code == 422
    assert PlanVersion.objects.count() == 2
    page = planned.get(url("review")).content.decode()
    assert "Plan 2 was applied by planner since this draft was started from plan 1" in page
    assert "workflow.name: Replies → Support reply" in page
    press(planned, "review", "rebase:2")
    press(planned, "review", "apply")
    assert PlanVersion.objects.get(number=3).document["workflow"]["name"] == "Support reply"


def test_discarding_keeps_the_plan(planned: Client) -> None:
    put(planned, "workflow", values={"/workflow/hold_s": "45"})
    press(planned, "workflow", "discard")
    assert not PlanDraft.objects.exists()
    assert Workflow.objects.get().hold_s == 60


def test_a_first_plan_is_written_step_by_step() -> None:
    people()
    principal_of_all()
    client = logged_in("planner")

    def fill(step: str, **values: str) -> None:
        renamed = {key.replace("__", "/"): value for key, value in values.items()}
        answer = put(client, step, "next", None, values=renamed)
        assert answer.status_code == 302, answer.content

    assert "needs “slug”" not in client.get(url("workflow", None)).content.decode()
    fill("workflow", __workflow__slug="claims", __workflow__owner="owner",
         __workflow__deputy="deputy")  # fmt: skip
    press(client, "paths", "add:/workflow/paths", None)
    fill("paths", __workflow__paths__0__slug="intake")
    press(client, "segments", "add:/workflow/segments", None)
    fill("segments", **{
        "__workflow__segments__0__slug": "staff",
        "__workflow__segments__0__kind": "internal_team",
        "__workflow__segments__0__owner": "owner",
        "__workflow__segments__0__rule:value": "internal",
    })  # fmt: skip
    put(client, "rollout", "save", None, values={"/rollout": "on"})
    fill("rollout", __rollout__slug="claims-1", __rollout__candidate="1")
    press(client, "rollout", "add:/rollout/stages", None)
    fill("rollout", **{
        "__rollout__stages__0__slug": "first",
        "__rollout__stages__0__segments__0__segment": "staff",
    })  # fmt: skip
    review = client.get(url("review", None)).content.decode()
    assert "It was tried against what is stored, and can be applied." in review

    press(client, "review", "apply", None)

    plan = PlanVersion.objects.get(workflow__slug="claims")
    assert plan.document["rollout"]["stages"][0]["segments"] == [{"segment": "staff", "share": 0.9}]
    assert plan.document["workflow"]["segments"][0]["rule"] == {"==": [{"var": "team"}, "internal"]}
    assert yaml_load(plan.text).value == plan.document
    assert plan.text.startswith("version: 1\nworkflow:\n  slug: claims\n  owner: owner\n")


def test_a_new_plan_does_not_take_over_a_workflow(planned: Client) -> None:
    client = logged_in("planner")
    put(client, "workflow", "save", None, values={"/workflow/slug": WORKFLOW})
    assert "There is a workflow “support-reply” already" in (
        client.get(url("workflow", None)).content.decode()
    )
    form = form_of(planned.get(url("workflow") + "?file=edit").content.decode(), "plan-text")
    text = NOTED.replace("slug: support-reply\n", "slug: claims\n", 1)
    planned.post(url("workflow"), {**form, "text": text, "do": "text"})
    assert "keep its slug" in planned.get(url("workflow")).content.decode()
    assert press(planned, "review", "apply").status_code == 422


def test_a_loosening_change_becomes_one_that_waits() -> None:
    rollout_at(RolloutState.LIVE)
    person("owner", Role.APPROVER)
    client = logged_in("owner")
    put(client, "actions", values={"/workflow/action_routes/0/default": "allow"})
    assert "It waits for an approver" in client.get(url("review")).content.decode()

    answer = press(client, "review", "apply")

    change = PlanChange.objects.get()
    where = reverse("web:plan_change", args=[WORKFLOW, change.pk])
    assert answer["Location"] == where
    own = client.get(where).content.decode()
    assert "You proposed it, so a colleague has to approve" in own
    assert 'value="approve"' not in own
    approver = logged_in("approver")
    page = approver.get(where).content.decode()
    assert '<li data-k="changed" class="looser">' in page
    form = {"digest": change.digest, "decision": "approve", "reason": ""}
    assert approver.post(where, form).status_code == 422
    assert approver.post(where, {**form, "reason": "fine"}).status_code == 302
    change.refresh_from_db()
    assert change.state == "approved"
    history = approver.get(reverse("web:plan_history", args=[WORKFLOW])).content.decode()
    assert "by owner, approved by approver" in history
    assert "workflow.action_routes[send_message].default: ask → allow" in history


def test_a_rule_is_tried_on_a_typed_context(planned: Client) -> None:
    name = "context:/workflow/segments/0"

    def tried(context: str) -> str:
        answer = put(planned, "segments", "match:0", values={name: context})
        assert answer.status_code == 200
        return str(answer.content.decode())

    holds = tried('{"team": "internal"}')
    assert "The rule holds on this context." in holds
    assert "It has no targetingKey" in holds
    assert "Contexts of past tasks are not kept" in holds
    assert "0 tasks of the last 24 hours were counted in “internal-ops”" in holds
    lacking = tried('{"targetingKey": "u"}')
    assert "The rule does not hold; the context lacks team, which it reads." in lacking
    assert "The context cannot be read. Not JSON" in tried("{")
    assert "A context is a map" in tried("[]")


@pytest.mark.parametrize("name", ["viewer", "approver", "administrator"])
def test_who_may_not_edit_reads_and_is_told_who_can(planned: Client, name: str) -> None:
    client = logged_in(name)
    page = client.get(reverse("web:plan_workflow", args=[WORKFLOW])).content.decode()
    assert "Edit: owner, deputy and planner" in page
    refused = client.get(url("paths"))
    assert refused.status_code == 403
    assert client.post(url("paths"), {"do": "save"}).status_code == 403
    assert not PlanDraft.objects.exists()


def test_an_outsider_finds_no_plan(planned: Client) -> None:
    client = logged_in("outsider")
    assert WORKFLOW not in client.get("/plans/").content.decode()
    for name in ("plan_workflow", "plan_file", "plan_history", "plan_open"):
        assert client.get(reverse(f"web:{name}", args=[WORKFLOW])).status_code in (403, 404)
    assert client.get(url("paths")).status_code == 404


def test_drafts_are_a_persons_own(planned: Client) -> None:
    put(planned, "workflow", values={"/workflow/name": "Mine"})
    assert opened(logged_in("deputy"), "workflow")["/workflow/name"] == ["Support reply"]
    row = planned.get("/plans/").content.decode()
    assert "your draft of" in row


def test_a_rollouts_address_leads_to_the_editor(planned: Client) -> None:
    slug = plan_document()["rollout"]["slug"]
    answer = planned.get(f"/rollouts/{slug}/plan/triggers/")
    assert answer["Location"] == url("triggers")
    assert planned.get(f"/rollouts/{slug}/plan/").status_code == 200
    assert planned.get(f"/rollouts/{slug}/plan.yaml").content.decode() == NOTED
    assert planned.get(url("nothing")).status_code == 404


def test_a_step_with_many_rows_is_saved_whole(planned: Client) -> None:
    other = whole()
    trigger = other["rollout"]["triggers"][1]
    other["rollout"]["triggers"] += [{**trigger, "slug": f"slow-{n}"} for n in range(120)]
    text = yaml_dump(other)
    form = form_of(planned.get(url("triggers") + "?file=edit").content.decode(), "plan-text")
    planned.post(url("triggers"), {**form, "text": text, "do": "text"})

    put(planned, "triggers", values={"/rollout/triggers/122/limit": "5999"})

    assert document()["rollout"]["triggers"][122]["limit"] == 5999
    assert len(document()["rollout"]["triggers"]) == 123
