"""From the spans of a trace to the runs they are: one per topmost span that has a place. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from signals.otlp.aliases import Facts, Work, facts_of
from signals.otlp.calls import Call, Duplicate, calls_of, failed, retries_of
from signals.otlp.mapping import Known, Place, Take, place_of, resource_of, seek, taken
from signals.otlp.prices import NO_PRICES, PriceSheet, Usage, call_cost
from signals.otlp.spans import Span, moment

# What a span may say of its run beside its place, in the words of a reported run.
SAID: Final[Mapping[str, str]] = {
    "rollout.arm": "arm",
    "rollout.mode": "mode",
    "rollout.route": "route",
    "rollout.exposure_version": "exposure_version",
    "rollout.client": "client",
    "rollout.subject": "subject",
    "rollout.outcome": "outcome",
    "rollout.failure_category": "failure_category",
    "rollout.critical": "critical",
    "rollout.risk": "risk",
    "rollout.input_condition": "input_condition",
    "rollout.confidence": "confidence",
    "rollout.review_requested": "review_requested",
    "rollout.drill": "drill",
}
TEXT_MAX: Final = 200
CATEGORY_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Assembled:
    """A run found in a trace, or why what looks like one is none."""

    root: Span
    workflow: str
    # A run as `POST /api/v1/runs` takes it; None where `fault` says why there is none.
    item: dict[str, Any] | None
    fault: str
    # Every span under the root, which is one of them.
    span_ids: frozenset[str]
    duplicates: tuple[Duplicate, ...] = ()
    response_ids: frozenset[str] = frozenset()

    @property
    def run_id(self) -> str:
        return run_id(self.root)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a look at a trace found. `waiting`: a root's parent may still come."""

    found: tuple[Assembled, ...]
    waiting: bool
    # By root of a run counted before: how many spans are under it now.
    counted_spans: Mapping[str, int]


@dataclass(slots=True)
class _Tree:
    by_id: dict[str, Span]
    facts: dict[str, Facts]
    children: dict[str, list[str]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)

    def below(self, root: str) -> list[str]:
        """Return the root and every span under it, from the top down."""
        order: list[str] = []
        waiting = [root]
        while waiting:
            span_id = waiting.pop()
            order.append(span_id)
            waiting.extend(reversed(self.children.get(span_id, ())))
        return order

    def ancestors(self, span_id: str) -> list[Span]:
        found: list[Span] = []
        above = self.parents[span_id]
        while above is not None:
            found.append(self.by_id[above])
            above = self.parents[above]
        return found


def run_id(root: Span) -> str:
    return f"{root.trace_id}-{root.span_id}"


def trace_assemble(
    spans: Iterable[Span],
    *,
    workflows: Mapping[str, Known],
    prices: PriceSheet = NO_PRICES,
    tool_requests: Mapping[str, int] | None = None,
    counted: Collection[str] = (),
    final: bool = True,
) -> Trace:
    """Return the runs that the spans of one trace are; their order changes nothing.

    Args:
        spans: all that is kept of the trace.
        workflows: every workflow, by slug; a span's own reach limits which it may name.
        tool_requests: tools that a span's answer asked for, as its log records tell, by span id.
        counted: ids of root spans that were counted, or refused, before.
        final: whether a parent that is missing is given up.
    """
    tree, orphans = _tree(spans)
    tops = [span_id for span_id, parent in tree.parents.items() if parent is None]
    known_counts = {root: len(tree.below(root)) for root in counted if root in tree.by_id}
    found: list[Assembled] = []
    waiting = False
    for top in tops:
        for root, place in _roots(tree, top, workflows, frozenset(counted)):
            if top in orphans and not final:
                waiting = True
                continue
            one = _assembled(tree, root, place, workflows, prices, tool_requests or {})
            if one is not None:
                found.append(one)
    return Trace(tuple(found), waiting, known_counts)


def _tree(spans: Iterable[Span]) -> tuple[_Tree, frozenset[str]]:
    """Return the spans as a forest, and which tops name a parent that is not there."""
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.end_ns, span.span_id))
    by_id: dict[str, Span] = {}
    for span in ordered:
        by_id.setdefault(span.span_id, span)
    tree = _Tree(by_id, {key: facts_of(span.attributes) for key, span in by_id.items()})
    orphans: set[str] = set()
    for span_id, span in by_id.items():
        parent = span.parent_id
        if parent is not None and parent not in by_id:
            orphans.add(span_id)
            parent = None
        tree.parents[span_id] = parent
    _cycles_cut(tree)
    for span_id, parent in tree.parents.items():
        if parent is not None:
            tree.children.setdefault(parent, []).append(span_id)
    return tree, frozenset(orphans)


def _cycles_cut(tree: _Tree) -> None:
    """Make spans that are their own ancestors a tree: the earliest of them becomes a top."""
    safe: set[str] = set()
    for span_id in tree.by_id:
        path: dict[str, None] = {}
        at: str | None = span_id
        while at is not None and at not in safe and at not in path:
            path[at] = None
            at = tree.parents[at]
        if at is not None and at in path:
            members = list(path)[list(path).index(at) :]
            first = min(members, key=lambda one: (tree.by_id[one].start_ns, one))
            tree.parents[first] = None
        safe.update(path)


def _roots(
    tree: _Tree, top: str, workflows: Mapping[str, Known], counted: frozenset[str]
) -> list[tuple[str, Place]]:
    """Return the topmost spans under `top` that have a place, but none over or under a counted."""
    roots: list[tuple[str, Place]] = []
    waiting = [top]
    while waiting:
        span_id = waiting.pop()
        if span_id in counted:
            continue
        span = tree.by_id[span_id]
        reachable = {
            slug: known
            for slug, known in workflows.items()
            if span.reach is None or known.id in span.reach
        }
        place = place_of(
            span,
            facts=tree.facts[span_id],
            ancestors=tree.ancestors(span_id),
            workflows=reachable,
        )
        known = workflows.get(place.workflow) if place is not None else None
        dropped = known is not None and span.source.scope_name in known.mapping.drop_scopes
        if place is None or dropped:
            waiting.extend(reversed(tree.children.get(span_id, ())))
        elif counted.isdisjoint(tree.below(span_id)):
            roots.append((span_id, place))
    return roots


def _assembled(
    tree: _Tree,
    root_id: str,
    place: Place,
    workflows: Mapping[str, Known],
    prices: PriceSheet,
    tool_requests: Mapping[str, int],
) -> Assembled | None:
    """Return the run under a root; None where nothing under it is about AI work."""
    root = tree.by_id[root_id]
    below = tree.below(root_id)
    known = workflows.get(place.workflow)
    drop = known.mapping.drop_scopes if known is not None else frozenset()
    spans = [
        span
        for span_id in below
        if (span := tree.by_id[span_id]).source.scope_name not in drop
        # A trace id is no secret: what another workflow's token sent adds nothing here.
        and (known is None or span.reach is None or known.id in span.reach)
    ]
    explicit = any(name.startswith("rollout.") for name in root.attributes)
    if not explicit and all(tree.facts[span.span_id].work is None for span in spans):
        return None
    ids = frozenset(below)
    ancestors = tree.ancestors(root_id)
    release = release_of(root, ancestors, place)
    fault = place.fault
    if not fault and release is None:
        fault = (
            "Nothing says which release it was: send `rollout.release` or `service.version`, or "
            "add it to a mapping rule."
        )
    if fault:
        return Assembled(root, place.workflow, None, fault, ids)
    calls, duplicates = calls_of(spans, tree.facts, tree.parents)
    item: dict[str, Any] = {
        "id": run_id(root),
        "occurred_at": moment(root.start_ns).isoformat(),
        "workflow": place.workflow,
        "path": place.path,
        "release": release,
        "segment": said_or_taken("rollout.segment", "segment", root, ancestors, place),
        "latency_ms": (root.end_ns - root.start_ns) / 1e6,
        "trace_id": root.trace_id,
        **_outcome(root, tree.facts[root_id], calls),
        **_work_done(spans, tree.facts, calls, tool_requests),
        **_tokens(calls),
    }
    cost, unknown = _cost(calls, prices, root)
    if cost is not None:
        item |= {"cost_usd": f"{cost:f}", "cost_known": True}
    item["attributes"] = _attributes(root, spans, tree.facts, calls, unknown)
    item["subject"] = said_or_taken("rollout.subject", "subject", root, ancestors, place)
    for name, ours in SAID.items():
        if (value := seek(name, root, ancestors)) is not None:
            item[ours] = value
    return Assembled(
        root,
        place.workflow,
        {name: value for name, value in item.items() if value is not None},
        "",
        ids,
        tuple(duplicates),
        frozenset(call.facts.response_id for call in calls if call.facts.response_id),
    )


def release_of(root: Span, ancestors: Sequence[Span], place: Place) -> str | None:
    said = said_or_taken("rollout.release", "release", root, ancestors, place)
    version = resource_of(root).get("service.version") if said is None else said
    return None if version is None else str(version)


def said_or_taken(
    name: str, of_rule: str, root: Span, ancestors: Sequence[Span], place: Place
) -> str | None:
    said = seek(name, root, ancestors)
    if said is not None:
        return str(said)
    take: Take = getattr(place.rule, of_rule) if place.rule is not None else Take()
    found = taken(take, root, ancestors)
    return None if found is None else found[:TEXT_MAX]


def _outcome(root: Span, facts: Facts, calls: Sequence[Call]) -> dict[str, Any]:
    """A run failed where its root says so, or where its last call of a model did."""
    last = max(calls, key=lambda call: (call.span.end_ns, call.span.span_id), default=None)
    lost = last is not None and last.failed
    if not failed(root, facts) and not lost:
        return {"outcome": "ok"}
    of_call = last if last is not None and lost else None
    category = (
        facts.error_type
        or (of_call.facts.error_type if of_call else None)
        or _exception(root)
        or (_exception(of_call.span) if of_call else None)
    )
    return {
        "outcome": "error",
        "failure_category": None if category is None else category[:CATEGORY_MAX],
    }


def _exception(span: Span) -> str | None:
    for event in reversed(span.events()):
        told = event.get("attributes", {}).get("exception.type")
        if event.get("name") == "exception" and isinstance(told, str):
            # Without its module, as most senders put it into `error.type`.
            return told.rpartition(".")[2]
    return None


def _work_done(
    spans: Sequence[Span],
    facts: Mapping[str, Facts],
    calls: Sequence[Call],
    tool_requests: Mapping[str, int],
) -> dict[str, Any]:
    tools = sum(facts[span.span_id].work is Work.TOOL for span in spans)
    requested = sum(
        max(
            call.facts.tool_requests,
            *(tool_requests.get(span_id, 0) for span_id in call.span_ids),
        )
        for call in calls
    )
    searches = [facts[span.span_id] for span in spans if facts[span.span_id].work is Work.RETRIEVAL]
    documents = [one.documents for one in searches if one.documents is not None]
    scores = [one.retrieval_score for one in searches if one.retrieval_score is not None]
    # Where tools are not instrumented, what the model asked for is what is known.
    tool_calls = tools or requested
    return {
        "retries": retries_of(calls),
        "steps": len(calls) + tools + len(searches),
        "tool_calls": tool_calls,
        "retrieved": sum(documents) if documents and len(documents) == len(searches) else None,
        "retrieval_score": max(scores, default=None),
    }


def _tokens(calls: Sequence[Call]) -> dict[str, Any]:
    """Sum what the calls told; a call that answered and told nothing makes the sum unknown."""
    told = [call for call in calls if call.tells_tokens or not call.failed]
    measures: dict[str, float] = {}
    for name in ("tokens_cache_read", "tokens_cache_write", "tokens_reasoning"):
        counts = [n for call in calls if (n := getattr(call.facts, name)) is not None]
        if counts:
            measures[name] = sum(counts)
    waits = [call.facts.ttft_ms for call in calls if call.facts.ttft_ms is not None]
    if waits:
        measures["ttft_ms"] = waits[0]
    return {
        "input_tokens": _sum([call.facts.tokens_in for call in told]),
        "output_tokens": _sum([_tokens_out(call) for call in told]),
        "measures": measures or None,
    }


def _tokens_out(call: Call) -> int | None:
    if call.facts.tokens_out is None and call.facts.work is Work.EMBEDDINGS:
        # An embedding answers no tokens.
        return 0
    return call.facts.tokens_out


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _cost(calls: Sequence[Call], prices: PriceSheet, root: Span) -> tuple[Decimal | None, str]:
    """Return the price of every call together, or None and what makes it unknown."""
    # A call that failed and told no tokens was not billed, but makes nothing free either.
    billed = [call for call in calls if call.tells_tokens or not call.failed]
    if not billed:
        return None, "no call of a model told its tokens" if calls else ""
    total = Decimal(0)
    for call in billed:
        facts = call.facts
        price, reason = call_cost(
            prices,
            models=tuple(name for name in (facts.model_served, facts.model_requested) if name),
            usage=Usage(
                facts.tokens_in,
                _tokens_out(call),
                facts.tokens_cache_read or 0,
                facts.tokens_cache_write or 0,
            ),
            at=moment(root.start_ns),
        )
        if price is None:
            return None, reason
        total += price
    return total, ""


def _attributes(
    root: Span,
    spans: Sequence[Span],
    facts: Mapping[str, Facts],
    calls: Sequence[Call],
    cost_unknown: str,
) -> dict[str, str] | None:
    """Return the few words that a run is looked up by; its spans keep the rest."""
    every = [facts[span.span_id] for span in spans]
    resource = resource_of(root)
    environment = resource.get("deployment.environment.name")
    lists: dict[str, Iterable[str | None]] = {
        "span": [root.name],
        "scope": [root.source.scope_name],
        "service": [_text(resource.get("service.name"))],
        "environment": [_text(environment or resource.get("deployment.environment"))],
        "provider": [call.facts.provider for call in calls],
        "model": [call.facts.model for call in calls],
        "model_requested": [call.facts.model_requested for call in calls],
        "error": [call.facts.error_type for call in calls if call.failed],
        "finish": [reason for call in calls for reason in call.facts.finish],
        "response_id": [call.facts.response_id for call in calls],
        "agent": [one.agent for one in every],
        "conversation": [one.conversation for one in every],
        "prompt": [one.prompt for one in every],
        "tool": [one.tool for one in every],
        "cost_unknown": [cost_unknown or None],
    }
    told = {
        name: ", ".join(dict.fromkeys(value for value in values if value))[:TEXT_MAX]
        for name, values in lists.items()
    }
    return {name: text for name, text in told.items() if text}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
