"""What the pages of raw runs show: numbers as text, and what a row is judged by."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from django.conf import settings
from django.urls import reverse
from django.utils.http import urlencode

from approvals.authority.principals import Principal
from rollout_console.catalog.models import Workflow
from rollout_console.core.errors import InvalidInput
from rollout_console.web.selectors.shell import readable_workflows
from rollout_console.web.words import OUTCOMES, Shown
from signals.catalogue import SIGNALS, signal_of
from signals.format import MISSING, unit_text
from signals.ingest.drill import Asked, query_read
from signals.ingest.run_reads import Label, RunRow, run_get, runs_page
from signals.ingest.worst import BY_OUTCOME, WORST

# Filters that the form has no field for show as chips that can be taken away.
_CHIPS: Final = {
    "release": "release",
    "segment": "segment",
    "arm": "arm",
    "mode": "mode",
    "route": "route",
    "failure_category": "failure category",
    "input_condition": "input condition",
    "risk": "risk",
    "clock": "by",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter in force, and the query string without it."""

    name: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of the list. `judged` are labels that came later, as words."""

    row: RunRow
    href: str
    shown: Shown
    latency: str
    cost: str
    tokens: str
    quality: str
    judged: list[str]


@dataclass(frozen=True, slots=True)
class RunList:
    """A page of runs; `lines` is None where no workflow has been chosen yet."""

    lines: list[RunLine] | None
    next: str | None
    workflows: list[tuple[str, str]]
    paths: list[tuple[str, str]]
    chips: list[Chip]
    hidden: list[tuple[str, str]]
    outcomes: list[str]
    signals: list[tuple[str, str]]
    start: datetime | None = None
    end: datetime | None = None
    order: str = "newest"
    words: str = ""
    by_arrival: bool = False
    read_back_to: datetime | None = None
    kept_from: date | None = None
    kept_days: int = 0
    workflow: Workflow | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class RunView:
    """One run with everything kept of it. `hidden` may hold what customers wrote."""

    workflow: Workflow
    row: RunRow
    shown: Shown
    facts: list[Fact]
    numbers: list[Fact]
    hidden: list[Fact]
    measures: list[Fact]
    labels: list[tuple[Label, str]]
    around: str


def run_list(asked: Asked, *, principal: Principal, now: datetime) -> RunList:
    """Return the runs that the query string asks for.

    Raises:
        NotFound, InvalidInput, SpanTooBusy.
    """
    readable = readable_workflows(principal).values()
    workflows = sorted(((each.slug, each.name) for each in readable), key=lambda pair: pair[1])
    frame: dict[str, object] = {
        "workflows": workflows,
        "chips": _chips(asked),
        "hidden": [(key, value) for key in _CHIPS for value in asked.get(key, [])],
        "outcomes": list(OUTCOMES),
        "signals": [(slug, signal_of(slug).title) for slug in SIGNALS if slug in WORST],
    }
    if not asked.get("workflow"):
        return RunList(lines=None, next=None, paths=[], **frame)  # type: ignore[arg-type]  # as above
    query = query_read(asked, principal=principal, now=now)
    page = runs_page(query)
    worst = WORST.get(query.signal, BY_OUTCOME)
    return RunList(
        lines=[run_line(row) for row in page.rows],
        next=page.next,
        paths=list(query.workflow.paths.order_by("slug").values_list("slug", "name")),
        start=query.start,
        end=query.end,
        order=query.order,
        words=worst.words if query.order == "worst" else "",
        by_arrival=query.by_arrival,
        read_back_to=page.read_back_to,
        kept_from=page.kept_from,
        kept_days=settings.RUN_DAYS_KEPT,
        workflow=query.workflow,
        **frame,  # type: ignore[arg-type]  # as above
    )


def run_view(
    *, workflow: str, run_id: str, at: str, principal: Principal, now: datetime
) -> RunView:
    """Return one run.

    Raises:
        NotFound, InvalidInput.
    """
    if not at:
        raise InvalidInput("Which run? Its address ends in ?at= and when it happened.")
    # The same door as the list: who may read, and what a time looks like.
    query = query_read({"workflow": [workflow], "to": [at]}, principal=principal, now=now)
    row = run_get(workflow=query.workflow, run_id=run_id, at=query.end)
    return RunView(
        workflow=query.workflow,
        row=row,
        shown=OUTCOMES[row.outcome],
        facts=_facts(row),
        numbers=_numbers(row),
        hidden=[Fact(name, value) for name, value in sorted(row.attributes.items())],
        measures=[Fact(name, f"{value:g}") for name, value in sorted(row.measures.items())],
        labels=[(label, _said(label)) for label in row.labels],
        around=runs_href(
            workflow=workflow,
            path=row.path,
            to=row.occurred_at.isoformat(),
            order="newest",
        ),
    )


def runs_href(**asked: str) -> str:
    """Return the address of the runs that `asked` names; empty values are left out.

    `from_` stands for `from`, which Python keeps for itself.
    """
    given = {key.rstrip("_"): value for key, value in asked.items() if value}
    return f"{reverse('web:runs')}?{urlencode(given)}"


def _chips(asked: Asked) -> list[Chip]:
    kept = {key: values for key, values in asked.items() if key != "cursor"}
    return [
        Chip(
            name,
            ", ".join(kept[key]) if key != "clock" else f"time of {kept[key][-1]}",
            urlencode({each: values for each, values in kept.items() if each != key}, doseq=True),
        )
        for key, name in _CHIPS.items()
        if kept.get(key)
    ]


def run_line(row: RunRow) -> RunLine:
    return RunLine(
        row=row,
        href=run_href(row),
        shown=OUTCOMES[row.outcome],
        latency=_number("ms", row.latency_ms),
        cost=_number("usd", row.cost_usd),
        tokens=_tokens(row.input_tokens, row.output_tokens),
        quality=_quality(row.quality_passed, row.quality_score),
        judged=[_said(label) for label in row.labels],
    )


def run_href(row: RunRow) -> str:
    """Return the address of a run's own page."""
    address = reverse("web:run", args=[row.workflow, row.id])
    return f"{address}?{urlencode({'at': row.occurred_at.isoformat()})}"


def _number(unit: str, value: float | None) -> str:
    return MISSING if value is None else unit_text(unit, value)  # type: ignore[arg-type]  # a Unit


def _tokens(given: int | None, made: int | None) -> str:
    if given is None and made is None:
        return MISSING
    return f"{_count(given)} / {_count(made)}"


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def _quality(passed: bool | None, score: float | None) -> str:
    words = [] if passed is None else ["passed" if passed else "failed"]
    if score is not None:
        words.append(f"score {score:.2f}")
    return ", ".join(words) or MISSING


def _said(label: Label) -> str:
    """Return a label in words: "evaluation toxicity: failed, score 0.10"."""
    if label.kind == "evaluation":
        name = f" {label.name}" if label.name else ""
        return f"evaluation{name}: {_quality(label.passed, label.score)}"
    if label.kind == "review":
        took = "" if label.duration_ms is None else f" after {unit_text('ms', label.duration_ms)}"
        return f"review: {label.verdict}{took}"
    if label.kind == "feedback":
        return f"feedback: {label.value}"
    words = [label.outcome or "", label.failure_category or ""]
    words += ["critical"] if label.critical else []
    return f"outcome: {', '.join(word for word in words if word) or 'not critical'}"


def _facts(row: RunRow) -> list[Fact]:
    told: Mapping[str, str | None] = {
        "Path": row.path,
        "Release": row.release or "none",
        "Arm": row.arm or "not known",
        "Segment": row.segment or "none",
        "Mode": row.mode.replace("_", " "),
        "Route": row.route,
        "Failure category": row.failure_category,
        "Critical": "yes" if row.critical else "no",
        "Risk": row.risk,
        "Input condition": row.input_condition,
        "Review asked for": "yes" if row.review_requested else "no",
        "Exposure version": None if row.exposure_version is None else str(row.exposure_version),
        "Client": row.client,
        "Drill": row.drill,
    }
    return [Fact(name, value) for name, value in told.items() if value]


def _numbers(row: RunRow) -> list[Fact]:
    return [
        Fact("Latency", _number("ms", row.latency_ms)),
        Fact("Cost", "unknown" if row.cost_usd is None else f"${row.cost_usd:.10g}"),
        Fact("Input tokens", _count(row.input_tokens)),
        Fact("Output tokens", _count(row.output_tokens)),
        Fact("Context tokens", _count(row.context_tokens)),
        Fact("Retries", _count(row.retries)),
        Fact("Steps", _count(row.steps)),
        Fact("Tool calls", _count(row.tool_calls)),
        Fact("Documents found", _count(row.retrieved)),
        Fact("Retrieval score", _number("score", row.retrieval_score)),
        Fact("Confidence", _number("score", row.confidence)),
        Fact("Quality when reported", _quality(row.quality_passed, row.quality_score)),
    ]
