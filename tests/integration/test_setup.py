"""The first run: a workflow, a token shown once, snippets that really run, and what arrives."""

import html
import re
import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from approvals.authority.matrix import Role, Scope
from approvals.authority.models import ApiToken
from approvals.authority.principals import token_principal
from rollout_console.audit.models import AuditEntry
from rollout_console.catalog.models import Workflow
from rollout_console.core.canonical import digest
from rollout_console.rollouts.models import PlanVersion
from signals.buckets.services import buckets_fold
from signals.ingest.drain import batches_drain
from signals.ingest.models import Run
from signals.ingest.rows import OUTCOMES
from signals.ingest.services import caches_forget
from signals.otlp.sweep import traces_assemble
from tests.factories import person
from tests.live import Console, console
from tests.matrix import logged_in

__all__ = ["console"]

NAMED = {
    "workflow": "parcel-help",
    "workflow_name": "Parcel help",
    "path": "answer",
    "path_name": "Answer a question",
}
ADDRESS = "/setup/parcel-help/answer/"


@pytest.fixture
def newcomer(transactional_db: None) -> Client:
    """Somebody alone with an empty console, who may write plans and make tokens."""
    caches_forget()
    person("new", Role.OWNER)
    person("new", Role.ADMINISTRATOR)
    return logged_in("new")


def begun(client: Client, host: str = "testserver") -> str:
    """Name the workflow, make a token, and return the page that shows it."""
    assert client.post("/setup/", NAMED).status_code == 302
    answer = client.post(ADDRESS, {"name": "parcel-reporter"}, HTTP_HOST=host)
    assert answer.status_code == 200
    return answer.content.decode()


def snippet_of(page: str, slug: str) -> str:
    (found,) = re.findall(rf'<pre [^>]*id="snippet-{slug}"[^>]*>(.*?)</pre>', page, re.S)
    return html.unescape(found)


def test_an_empty_console_leads_to_the_first_run(newcomer: Client) -> None:
    page = newcomer.get("/").content.decode()
    assert 'href="/setup/"' in page
    assert newcomer.get("/setup/").status_code == 200


def test_naming_makes_the_smallest_plan_once(newcomer: Client) -> None:
    for _ in range(2):
        answer = newcomer.post("/setup/", NAMED)
        assert (answer.status_code, answer["Location"]) == (302, ADDRESS)

    workflow = Workflow.objects.get()
    assert (workflow.slug, workflow.name, workflow.owner.username) == (
        "parcel-help",
        "Parcel help",
        "new",
    )
    assert workflow.paths.get().slug == "answer"
    assert PlanVersion.objects.count() == 1
    assert AuditEntry.objects.filter(action="plan.applied").count() == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workflow": "Parcel Help"}, "small letters"),
        ({"path": "a.b"}, "small letters"),
        ({"workflow": ""}, "small letters"),
        ({"path": "x" * 81}, "small letters"),
    ],
)
def test_a_name_that_does_not_do_is_said_at_its_field(
    newcomer: Client, fields: dict[str, str], said: str
) -> None:
    answer = newcomer.post("/setup/", {**NAMED, **fields})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert said in page
    assert 'value="Parcel help"' in page
    assert not Workflow.objects.exists()


def test_a_workflow_that_is_there_is_not_planned_over(newcomer: Client) -> None:
    newcomer.post("/setup/", NAMED)

    answer = newcomer.post("/setup/", {**NAMED, "path": "other"})

    assert answer.status_code == 422
    assert "has a plan already" in answer.content.decode()
    assert PlanVersion.objects.count() == 1


def test_a_token_is_shown_once_and_reaches_its_workflow_only(newcomer: Client) -> None:
    page = begun(newcomer)

    (secret,) = re.findall(r'<pre class="code sunk" id="token" tabindex="0">([^<]+)</pre>', page)
    principal = token_principal(secret, now=timezone.now())
    assert principal is not None
    assert principal.scopes == frozenset({Scope.INGEST, Scope.EVALUATE})
    assert principal.workflow_ids == frozenset({Workflow.objects.get().pk})
    entry = AuditEntry.objects.get(action="token.created")
    assert (entry.actor, entry.workflow, entry.subject) == ("new", "parcel-help", "parcel-reporter")
    assert secret not in digest(entry.data)
    assert secret in snippet_of(page, "curl")

    again = newcomer.post(ADDRESS, {"name": "parcel-reporter"})
    assert again.status_code == 422
    assert "Nothing was made" in again.content.decode()
    later = newcomer.get(ADDRESS).content.decode()
    assert secret not in later
    assert "$ROLLOUT_TOKEN" in snippet_of(later, "python")
    assert ApiToken.objects.count() == 1


def test_who_may_not_make_a_token_is_told_who_can(newcomer: Client) -> None:
    newcomer.post("/setup/", NAMED)
    person("just-owner", Role.OWNER)
    client = logged_in("just-owner")

    page = client.get(ADDRESS).content.decode()
    refused = client.post(ADDRESS, {"name": "mine"})

    assert "Can do it now: new." in page
    assert "manage.py token create parcel-help-reporter --scope ingest evaluate" in page
    assert 'id="make"' not in page
    assert refused.status_code == 403
    assert not ApiToken.objects.exists()


def commands(slug: str, text: str, folder: Path) -> list[str]:
    if slug == "curl":
        return ["bash", "-c", text]
    name = {"python": "first.py", "javascript": "first.mjs"}[slug]
    (folder / name).write_text(text)
    return [sys.executable if slug == "python" else "node", str(folder / name)]


@pytest.mark.parametrize("slug", ["curl", "python", "javascript"])
def test_a_snippet_runs_as_it_is_and_its_event_shows(
    console: Console, newcomer: Client, slug: str, tmp_path: Path
) -> None:
    needs = {"curl": "curl", "javascript": "node"}.get(slug)
    if needs and shutil.which(needs) is None:
        pytest.skip(f"{needs} is not on this machine")
    page = begun(newcomer, console.url.removeprefix("http://"))
    before = newcomer.get(ADDRESS, headers={"X-Live": "1"})
    assert "Nothing yet" in before.content.decode()

    done = subprocess.run(
        commands(slug, snippet_of(page, slug), tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert '"accepted":1' in done.stdout.replace(" ", ""), done.stderr + done.stdout
    batches_drain(now=timezone.now())
    buckets_fold(now=timezone.now())
    run = Run.objects.get()
    assert (run.latency_ms, run.cost_usd, run.input_tokens) == (840, 0.012, 1200)
    etag = {"If-None-Match": before["ETag"], "X-Live": "1"}
    after = newcomer.get(ADDRESS, headers=etag)
    text = after.content.decode()
    assert f'data-event="{run.run_id}"' in text
    assert "It has arrived" in text
    assert (
        newcomer.get(ADDRESS, headers={**etag, "If-None-Match": after["ETag"]}).status_code == 304
    )


# What any program does that is instrumented already: the snippet before it is all that is ours.
_INSTRUMENTED = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("app").start_as_current_span("chat gpt-4o") as span:
    span.set_attribute("gen_ai.operation.name", "chat")
    span.set_attribute("gen_ai.request.model", "gpt-4o")
    span.set_attribute("gen_ai.usage.input_tokens", 1200)
provider.shutdown()
"""


def test_the_telemetry_snippet_is_all_that_an_instrumented_program_needs(
    console: Console, newcomer: Client, tmp_path: Path
) -> None:
    page = begun(newcomer, console.url.removeprefix("http://"))
    (tmp_path / "app.py").write_text(_INSTRUMENTED)
    run_it = shlex.join([sys.executable, str(tmp_path / "app.py")])
    script = f"{snippet_of(page, 'opentelemetry')}\nexec {run_it}"

    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    later = timezone.now() + timedelta(seconds=settings.OTLP_SETTLE_MAX_S)
    traces_assemble(now=later)
    batches_drain(now=later)
    buckets_fold(now=later)
    run = Run.objects.get()
    assert (run.input_tokens, run.outcome) == (1200, OUTCOMES["ok"])
    text = newcomer.get(ADDRESS, headers={"X-Live": "1"}).content.decode()
    assert f'data-event="{run.run_id}"' in text
    # From its page the run leads on to the span that it is made of.
    spans = newcomer.get(f"/runs/parcel-help/{run.run_id}/", {"at": run.occurred_at.isoformat()})
    assert "chat gpt-4o" in spans.content.decode()
    assert "gen_ai.usage.input_tokens" in spans.content.decode()
    assert "1 run from traces" in newcomer.get("/sources/").content.decode()


def test_what_was_refused_shows_with_its_reason(console: Console, newcomer: Client) -> None:
    page = begun(newcomer)
    (secret,) = re.findall(r'id="token" tabindex="0">([^<]+)</pre>', page)

    reply = console.send(
        "POST", "/api/v1/runs", token=secret, body={"workflow": "parcel-help", "path": "answers"}
    )

    assert reply.json["rejected"] == 1
    text = newcomer.get(ADDRESS, headers={"X-Live": "1"}).content.decode()
    assert html.escape(reply.json["errors"][0]["detail"]) in text
    assert "token parcel-reporter" in text


def test_nobody_else_sees_the_path(newcomer: Client) -> None:
    newcomer.post("/setup/", NAMED)
    person("outsider")

    assert logged_in("outsider").get(ADDRESS).status_code == 404
    assert Client().get(ADDRESS).status_code == 302
    assert newcomer.get("/setup/parcel-help/none/").status_code == 404
