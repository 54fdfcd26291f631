"""What the first run shows: how to report to a path, and what has arrived from it."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from approvals.authority.matrix import Role, Verb
from approvals.authority.models import ApiToken
from approvals.authority.principals import Principal, who_can
from rollout_console.catalog.models import Person, Workflow, WorkflowPath
from rollout_console.core.errors import NotFound
from rollout_console.rollouts.models import Rollout
from rollout_console.web.selectors.runs import RunLine, run_line
from rollout_console.web.selectors.shell import readable_ids
from signals.ingest.drill import SPAN_MAX, RunQuery
from signals.ingest.models import Source
from signals.ingest.run_reads import runs_page
from signals.ingest.source_reads import Rejection, rejected_read, waiting_of

_TOKEN: Final = "$ROLLOUT_TOKEN"  # noqa: S105  # a place for one
# What an example release is called; a report of an unknown one registers it by name.
_RELEASE: Final = "v1"
_REJECTED_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Snippet:
    """One way to send the first event. `command` says how to run it."""

    slug: str
    name: str
    command: str
    text: str


@dataclass(frozen=True, slots=True)
class Started:
    """How far a path has come. `event` is its newest run, `waiting` what is not drained yet."""

    path: WorkflowPath
    token_name: str
    tokens: list[str]
    event: RunLine | None
    newest_arrival_at: datetime | None
    waiting: int
    rejected: list[Rejection]
    planned: bool
    read_at: datetime

    def step(self, fresh: bool) -> int:
        """Return the step that is to be done: 2 token, 3 send, 5 go on."""
        if self.event is not None:
            return 5
        return 3 if fresh or self.tokens else 2


def path_get(workflow: str, path: str, *, principal: Principal) -> WorkflowPath:
    """Return a path.

    Raises:
        NotFound: there is none, or it is not theirs to read.
    """
    found = None
    if "\x00" not in workflow + path:
        found = (
            WorkflowPath.objects.select_related("workflow", "workflow__owner", "workflow__deputy")
            .filter(workflow__slug=workflow, slug=path)
            .first()
        )
    if found is None or not principal.may(Verb.READ, found.workflow_id):
        raise NotFound(f"There is no path “{path}” in a workflow “{workflow}” of yours.")
    return found


def waiting_paths(*, principal: Principal) -> list[tuple[str, str, str]]:
    """Return the readable paths that nothing was reported to yet: workflow, path, name."""
    paths = WorkflowPath.objects.select_related("workflow").order_by("workflow__slug", "slug")
    ids = readable_ids(principal)
    if ids is not None:
        paths = paths.filter(workflow__in=ids)
    workflow_ids = {each.workflow_id for each in paths}
    heard = set(
        Source.objects.filter(workflow_id__in=workflow_ids).values_list("path_id", flat=True)
    )
    return [
        (each.workflow.slug, each.slug, f"{each.workflow.name}: {each.name}")
        for each in paths
        if each.pk not in heard
    ]


def deputy_for(owner: Person) -> str:
    """Return who stands in: a deputy of every workflow, else another owner, else the same person.

    The readiness gate asks for somebody else before anything goes live.
    """
    for role in (Role.DEPUTY, Role.OWNER):
        other = (
            Person.objects.filter(
                memberships__role=role, memberships__workflow=None, is_active=True
            )
            .exclude(pk=owner.pk)
            .order_by("pk")
            .first()
        )
        if other is not None:
            return other.username
    return owner.username


def token_makers(workflow: Workflow) -> list[str]:
    """Return the names of those who may make a token for the workflow."""
    return who_can(Verb.TOKENS_MANAGE, workflow)


def started(path: WorkflowPath, *, principal: Principal, now: datetime) -> Started:
    """Return how far a path has come towards its first signal."""
    sources = list(
        Source.objects.filter(workflow_id=path.workflow_id, path_id=path.pk).values_list(
            "last_received_at", "newest_at"
        )
    )
    event = None
    if sources:
        newest = max(at for _, at in sources)
        end = newest + timedelta(seconds=1)
        query = RunQuery(path.workflow, end - SPAN_MAX, end, path_id=path.pk, limit=1)
        rows = runs_page(query).rows
        event = run_line(rows[0]) if rows else None
    tokens = list(
        ApiToken.objects.filter(workflows=path.workflow, revoked_at=None, scopes__contains="ingest")
        .order_by("name")
        .values_list("name", flat=True)
    )
    return Started(
        path=path,
        token_name=_token_name(path),
        tokens=tokens,
        event=event,
        newest_arrival_at=max((at for at, _ in sources), default=None),
        waiting=waiting_of(workflow_id=path.workflow_id),
        rejected=rejected_read(
            workflow_ids=[path.workflow_id],
            # Whoever reads everything may be shown what named no workflow at all.
            all_of_them=principal.may(Verb.READ, None),
            now=now,
        ).newest[:_REJECTED_MAX],
        planned=Rollout.objects.filter(workflow=path.workflow).exists(),
        read_at=now,
    )


def _token_name(path: WorkflowPath) -> str:
    """Return a name that no token has yet."""
    base = f"{path.workflow.slug}-reporter"[:140]
    taken = set(ApiToken.objects.filter(name__startswith=base).values_list("name", flat=True))
    names = [base, *(f"{base}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def snippets(path: WorkflowPath, *, url: str, secret: str) -> list[Snippet]:
    """Return runnable ways to report one run to the path; without a secret it has to be filled in.

    Args:
        url: where the console is reached, without a slash at the end.
        secret: the token, "" to name a variable in its place.
    """
    token = secret or _TOKEN
    run: dict[str, Any] = {
        "workflow": path.workflow.slug,
        "path": path.slug,
        "release": _RELEASE,
        "outcome": "ok",
        "latency_ms": 840,
        "cost_usd": 0.012,
        "input_tokens": 1200,
        "output_tokens": 90,
    }
    head = json.dumps(run)[1:-1]
    lines = json.dumps(run, indent=4)[1:-1].strip("\n")
    return [
        Snippet(
            "curl", "curl", "Paste into a shell.", _CURL.format(url=url, token=token, run=head)
        ),
        Snippet(
            "python",
            "Python",
            "Save as first.py, run: python3 first.py",
            _PYTHON.format(url=url, token=token, run=lines),
        ),
        Snippet(
            "javascript",
            "JavaScript",
            "Save as first.mjs, run: node first.mjs",
            _JAVASCRIPT.format(url=url, token=token, run=lines.replace("\n    ", "\n  ").strip()),
        ),
        Snippet(
            "opentelemetry",
            "OpenTelemetry",
            "Set before your instrumented workflow starts; its GenAI spans become runs.",
            _OTEL.format(
                url=url,
                # The header's value is percent-encoded there; a shell's variable is not.
                token=quote(token, safe="$"),
                workflow=path.workflow.slug,
                path=path.slug,
                release=_RELEASE,
            ),
        ),
    ]


_CURL: Final = """\
curl -sS {url}/api/v1/runs \\
  -H "Authorization: Bearer {token}" \\
  -H "Content-Type: application/json" \\
  -d @- <<RUN
{{"id": "first-$(date +%s)", "occurred_at": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
 {run}}}
RUN
"""

_PYTHON: Final = """\
import json
import uuid
from datetime import datetime, timezone
from urllib.error import HTTPError
from urllib.request import Request, urlopen

run = {{
    "id": uuid.uuid4().hex,
    "occurred_at": datetime.now(timezone.utc).isoformat(),
{run}
}}
request = Request(
    "{url}/api/v1/runs",
    data=json.dumps(run).encode(),
    headers={{"Authorization": "Bearer {token}", "Content-Type": "application/json"}},
)
try:
    print(urlopen(request, timeout=10).read().decode())
except HTTPError as refused:
    # The answer says what is wrong.
    print(refused.code, refused.read().decode())
"""

_JAVASCRIPT: Final = """\
const run = {{
  id: `first-${{Date.now()}}`,
  occurred_at: new Date().toISOString(),
  {run}
}};
const answer = await fetch("{url}/api/v1/runs", {{
  method: "POST",
  headers: {{ Authorization: "Bearer {token}", "Content-Type": "application/json" }},
  body: JSON.stringify(run),
}});
console.log(answer.status, await answer.text());
"""

_OTEL: Final = """\
export OTEL_EXPORTER_OTLP_ENDPOINT="{url}"
export OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
export OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20{token}"
export OTEL_RESOURCE_ATTRIBUTES="rollout.workflow={workflow},rollout.path={path},\
rollout.release={release}"
"""
