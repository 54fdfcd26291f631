"""The model calls of a trace, each once however many instrumentations reported it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from signals.otlp.aliases import Facts, Work
from signals.otlp.spans import STATUS_ERROR, Span

MODEL_WORK: Final = frozenset({Work.MODEL, Work.EMBEDDINGS})
# Spans beside each other cover one call where they share this much of the shorter one's time.
SHARED_TIME: Final = 0.8


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model; `facts` hold what any of its spans told, the counted one first."""

    span: Span
    facts: Facts
    failed: bool
    # The spans that reported it, the counted one included.
    span_ids: frozenset[str]
    scopes: frozenset[str]

    @property
    def tells_tokens(self) -> bool:
        return self.facts.tokens_in is not None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A call that `other_scope` reported beside `counted_scope`."""

    counted_scope: str
    other_scope: str
    span_id: str


def failed(span: Span, facts: Facts) -> bool:
    return span.status == STATUS_ERROR or facts.error_type is not None


def calls_of(
    spans: Sequence[Span], facts: Mapping[str, Facts], parents: Mapping[str, str | None]
) -> tuple[list[Call], list[Duplicate]]:
    """Return the calls in order of their start, and what was reported more than once.

    Of nested spans about the same kind of call the innermost count: the outer ones wrap them, and
    where they come from another instrumentation and wrap one call, they are its duplicate. Of
    spans beside each other, two are one call where they come from different instrumentations,
    agree on model, tokens and response as far as both tell, and share most of their time.

    Args:
        spans: those of one run, without those of dropped scopes.
        facts: by span id.
        parents: the parent's id by span id, of every span of the run.
    """
    about = [span for span in spans if facts[span.span_id].work in MODEL_WORK]
    about.sort(key=lambda span: (span.start_ns, span.span_id))
    wraps: dict[str, list[str]] = {span.span_id: [] for span in about}
    outermost: list[str] = []
    for span in about:
        outer = _wrapper(span.span_id, facts, parents, wraps)
        (outermost if outer is None else wraps[outer]).append(span.span_id)
    by_id = {span.span_id: span for span in about}
    duplicates: list[Duplicate] = []
    reduced: dict[str, list[Call]] = {}
    # Inner ones first: what they come to is known when their wrapper is looked at.
    for span_id in reversed(_downwards(outermost, wraps)):
        inner = [call for one in wraps[span_id] for call in reduced.pop(one)]
        reduced[span_id] = _unwrapped(by_id[span_id], facts[span_id], inner, duplicates)
    calls = [call for one in outermost for call in reduced[one]]
    calls.sort(key=lambda call: (call.span.start_ns, call.span.span_id))
    return _beside_merged(calls, duplicates), duplicates


def retries_of(calls: Sequence[Call]) -> int:
    """Return how many calls try again what failed: the same work and model, after it ended."""
    retries = 0
    open_failures: dict[tuple[Work | None, str | None], list[int]] = {}
    for call in calls:
        what = (call.facts.work, call.facts.model_requested or call.facts.model_served)
        ended = open_failures.setdefault(what, [])
        before = [end for end in ended if end <= call.span.start_ns]
        if before:
            ended.remove(before[0])
            retries += 1
        if call.failed:
            ended.append(call.span.end_ns)
    return retries


def _wrapper(
    span_id: str,
    facts: Mapping[str, Facts],
    parents: Mapping[str, str | None],
    wraps: Mapping[str, list[str]],
) -> str | None:
    """Return the nearest span above that is about the same kind of call."""
    above = parents.get(span_id)
    seen = {span_id}
    while above is not None and above not in seen:
        if above in wraps and facts[above].work == facts[span_id].work:
            return above
        seen.add(above)
        above = parents.get(above)
    return None


def _downwards(outermost: Sequence[str], wraps: Mapping[str, list[str]]) -> list[str]:
    order: list[str] = []
    waiting = list(outermost)
    while waiting:
        span_id = waiting.pop()
        order.append(span_id)
        waiting.extend(wraps[span_id])
    return order


def _unwrapped(
    span: Span, facts: Facts, inner: list[Call], duplicates: list[Duplicate]
) -> list[Call]:
    """Return the calls that a span comes to, given those that it wraps."""
    scope = span.source.scope_name
    if not inner:
        alone = frozenset({span.span_id})
        return [Call(span, facts, failed(span, facts), alone, frozenset({scope}))]
    if len(inner) == 1:
        (call,) = inner
        if scope not in call.scopes:
            duplicates.append(Duplicate(call.span.source.scope_name, scope, span.span_id))
        return [_filled(call, facts, span.span_id, scope)]
    if facts.tokens_in is not None and not any(call.tells_tokens for call in inner):
        # Only the wrapper was told the usage, which is that of the answer it got in the end.
        last = max(inner, key=lambda call: (not call.failed, call.span.end_ns))
        inner[inner.index(last)] = _filled(last, facts, span.span_id, scope)
    return inner


def _beside_merged(calls: Sequence[Call], duplicates: list[Duplicate]) -> list[Call]:
    kept: list[Call] = []
    for call in calls:
        twin = next((one for one in kept if _same_call(one, call)), None)
        if twin is None:
            kept.append(call)
            continue
        counted, other = sorted((twin, call), key=_tells_most)
        name = counted.span.source.scope_name
        duplicates.append(Duplicate(name, other.span.source.scope_name, other.span.span_id))
        merged = counted
        for span_id in sorted(other.span_ids):
            merged = _filled(merged, other.facts, span_id, other.span.source.scope_name)
        kept[kept.index(twin)] = replace(merged, scopes=counted.scopes | other.scopes)
    kept.sort(key=lambda call: (call.span.start_ns, call.span.span_id))
    return kept


def _tells_most(call: Call) -> tuple[int, int, str]:
    told = sum(getattr(call.facts, field.name) is not None for field in fields(Facts))
    return (-told, call.span.start_ns, call.span.span_id)


def _same_call(one: Call, other: Call) -> bool:
    if one.facts.work != other.facts.work or not one.scopes.isdisjoint(other.scopes):
        return False
    for name in ("response_id", "tokens_in", "tokens_out"):
        ours, theirs = getattr(one.facts, name), getattr(other.facts, name)
        if ours is not None and theirs is not None and ours != theirs:
            return False
    ours, theirs = _models(one.facts), _models(other.facts)
    if ours and theirs and ours.isdisjoint(theirs):
        return False
    start = max(one.span.start_ns, other.span.start_ns)
    end = min(one.span.end_ns, other.span.end_ns)
    shorter = min(
        one.span.end_ns - one.span.start_ns,
        other.span.end_ns - other.span.start_ns,
    )
    return end >= start and end - start >= SHARED_TIME * shorter


def _models(facts: Facts) -> frozenset[str]:
    return frozenset(name for name in (facts.model_requested, facts.model_served) if name)


def _filled(call: Call, more: Facts, span_id: str, scope: str) -> Call:
    """Return the call with what another span of it told, where its own did not."""
    missing = {
        field.name: getattr(more, field.name)
        for field in fields(Facts)
        if getattr(call.facts, field.name) in (None, ()) and field.name != "work"
    }
    requests = max(call.facts.tool_requests, more.tool_requests)
    return replace(
        call,
        facts=replace(call.facts, **{**missing, "tool_requests": requests}),
        span_ids=call.span_ids | {span_id},
        scopes=call.scopes | {scope},
    )
