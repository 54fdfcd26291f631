"""What a span says of the AI work it covers, whichever convention its sender speaks. Pure.

Three generations of OpenTelemetry's GenAI conventions (until 1.36; 1.37 to 1.41; the conventions'
own repository), OpenInference and Traceloop are read here and nowhere else.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Work(StrEnum):
    """What kind of AI work a span is about."""

    MODEL = "model"
    EMBEDDINGS = "embeddings"
    TOOL = "tool"
    RETRIEVAL = "retrieval"
    AGENT = "agent"
    WORKFLOW = "workflow"
    OTHER = "other"


# Our word → what senders call it, newest first; the first one present is read.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "provider": (
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "llm.vendor",
    ),
    "model_requested": (
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.request.model",
    ),
    "model_served": (
        "gen_ai.response.model",
        "llm.response.model_name",
        "llm.response.model",
        "llm.model_name",
        "embedding.model_name",
    ),
    "tokens_in": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "tokens_out": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "tokens_cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "tokens_cache_write": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "tokens_reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "response_id": ("gen_ai.response.id",),
    "finish": (
        "gen_ai.response.finish_reasons",
        "gen_ai.response.finish_reason",
        "llm.finish_reason",
    ),
    "ttft_s": ("gen_ai.response.time_to_first_chunk",),
    "agent": ("gen_ai.agent.name", "gen_ai.agent.id", "agent.name"),
    "conversation": ("gen_ai.conversation.id", "session.id"),
    "tool": ("gen_ai.tool.name", "tool.name"),
    "prompt": ("gen_ai.prompt.name", "traceloop.prompt.key"),
    "documents": ("gen_ai.retrieval.documents",),
    "error_type": ("error.type",),
}

_OPERATIONS: Final[Mapping[str, Work]] = {
    "chat": Work.MODEL,
    "text_completion": Work.MODEL,
    "generate_content": Work.MODEL,
    "embeddings": Work.EMBEDDINGS,
    "retrieval": Work.RETRIEVAL,
    "execute_tool": Work.TOOL,
    "create_agent": Work.AGENT,
    "invoke_agent": Work.AGENT,
    "invoke_workflow": Work.WORKFLOW,
}
_OPENINFERENCE: Final[Mapping[str, Work]] = {
    "LLM": Work.MODEL,
    "EMBEDDING": Work.EMBEDDINGS,
    "RETRIEVER": Work.RETRIEVAL,
    "TOOL": Work.TOOL,
    "AGENT": Work.AGENT,
    "CHAIN": Work.WORKFLOW,
}
_TRACELOOP: Final[Mapping[str, Work]] = {
    "workflow": Work.WORKFLOW,
    "agent": Work.AGENT,
    "tool": Work.TOOL,
}
_REQUEST_TYPES: Final[Mapping[str, Work]] = {
    "chat": Work.MODEL,
    "completion": Work.MODEL,
    "embedding": Work.EMBEDDINGS,
}
_TOOL_REASONS: Final = frozenset({"tool_calls", "tool_call", "tool_use", "function_call"})
# Senders that write lists as numbered attributes: the numbers tell how many there are.
_TOOL_REQUEST: Final = re.compile(
    r"(?:llm\.output_messages|gen_ai\.completion)\.(\d+)\.(?:message\.)?tool_calls\.(\d+)\."
)
_DOCUMENT: Final = re.compile(r"retrieval\.documents\.(\d+)\.")
_SCORE: Final = re.compile(r"retrieval\.documents\.\d+\.document\.score")
_MOST_TOKENS: Final = 2**53


@dataclass(frozen=True, slots=True)
class Facts:
    """One span in our words; None is not told. Token counts include what was cached."""

    work: Work | None
    provider: str | None = None
    model_requested: str | None = None
    model_served: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cache_read: int | None = None
    tokens_cache_write: int | None = None
    tokens_reasoning: int | None = None
    response_id: str | None = None
    finish: tuple[str, ...] = ()
    ttft_ms: float | None = None
    workflow: str | None = None
    agent: str | None = None
    conversation: str | None = None
    tool: str | None = None
    prompt: str | None = None
    # How many tools the answer asks to be called.
    tool_requests: int = 0
    documents: int | None = None
    retrieval_score: float | None = None
    error_type: str | None = None

    @property
    def model(self) -> str | None:
        return self.model_served or self.model_requested


def facts_of(attributes: Mapping[str, Any]) -> Facts:
    """Return what the attributes say, read by the alias table."""
    work = _work(attributes)
    finish = _texts(_first(attributes, "finish"))
    ttft = _first(attributes, "ttft_s")
    return Facts(
        work=work,
        provider=_text(_first(attributes, "provider")),
        model_requested=_text(_first(attributes, "model_requested")) or _invoked(attributes),
        model_served=_text(_first(attributes, "model_served")),
        response_id=_text(_first(attributes, "response_id")),
        agent=_text(_first(attributes, "agent")),
        conversation=_text(_first(attributes, "conversation")),
        tool=_text(_first(attributes, "tool")),
        prompt=_text(_first(attributes, "prompt")),
        error_type=_text(_first(attributes, "error_type")),
        tokens_in=_whole(_first(attributes, "tokens_in")),
        tokens_out=_whole(_first(attributes, "tokens_out")),
        tokens_cache_read=_whole(_first(attributes, "tokens_cache_read")),
        tokens_cache_write=_whole(_first(attributes, "tokens_cache_write")),
        tokens_reasoning=_whole(_first(attributes, "tokens_reasoning")),
        finish=finish,
        ttft_ms=ttft * 1000 if _is_number(ttft) and ttft >= 0 else None,
        workflow=_workflow(attributes),
        tool_requests=_tool_requests(attributes, finish),
        documents=_documents(attributes),
        retrieval_score=_retrieval_score(attributes),
    )


def content_tool_requests(body: Any) -> int:
    """Return how many tools the body of a `gen_ai.choice` event asks to be called."""
    message = body.get("message") if isinstance(body, dict) else None
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return len(calls) if isinstance(calls, list) else 0


def _work(attributes: Mapping[str, Any]) -> Work | None:
    for name, words in (
        ("gen_ai.operation.name", _OPERATIONS),
        ("openinference.span.kind", _OPENINFERENCE),
        ("llm.request.type", _REQUEST_TYPES),
        ("traceloop.span.kind", _TRACELOOP),
    ):
        told = attributes.get(name)
        if isinstance(told, str):
            known = words.get(told)
            if known is not None:
                return known
            # A word of a newer convention: with a model and its tokens it is a call of one.
            return Work.MODEL if _is_call(attributes) else Work.OTHER
    return Work.MODEL if _is_call(attributes) else None


def _is_call(attributes: Mapping[str, Any]) -> bool:
    model = _first(attributes, "model_requested") or _first(attributes, "model_served")
    return model is not None and _first(attributes, "tokens_in") is not None


def _workflow(attributes: Mapping[str, Any]) -> str | None:
    """Return the workflow's name by the conventions: theirs moved into the agent's name."""
    if attributes.get("gen_ai.operation.name") == "invoke_workflow":
        named = attributes.get("gen_ai.agent.name")
        if isinstance(named, str):
            return named
    return _text(attributes.get("gen_ai.workflow.name", attributes.get("traceloop.workflow.name")))


def _invoked(attributes: Mapping[str, Any]) -> str | None:
    """Return the model that OpenInference's call parameters, JSON text, ask for."""
    for name in ("llm.invocation_parameters", "embedding.invocation_parameters"):
        told = _parsed(attributes.get(name))
        if isinstance(told, dict):
            return _text(told.get("model"))
    return None


def _tool_requests(attributes: Mapping[str, Any], finish: tuple[str, ...]) -> int:
    numbered = {match.groups() for key in attributes if (match := _TOOL_REQUEST.match(key))}
    told = sum(
        1
        for message in _objects(attributes.get("gen_ai.output.messages"))
        for part in _objects(message.get("parts"))
        if part.get("type") == "tool_call"
    )
    # A reason alone says that there was one at least.
    reason = 0 if _TOOL_REASONS.isdisjoint(finish) else 1
    return max(len(numbered), told, reason)


def _documents(attributes: Mapping[str, Any]) -> int | None:
    told = _parsed(_first(attributes, "documents"))
    if isinstance(told, list):
        return len(told)
    numbered = {match[1] for key in attributes if (match := _DOCUMENT.match(key))}
    return len(numbered) or None


def _retrieval_score(attributes: Mapping[str, Any]) -> float | None:
    scores = [value for key, value in attributes.items() if _SCORE.fullmatch(key)]
    scores += [one.get("score") for one in _objects(_first(attributes, "documents"))]
    # Some senders put distances here, which are no shares.
    shares = [score for score in scores if _is_number(score) and 0 <= score <= 1]
    return max(shares, default=None)


def _first(attributes: Mapping[str, Any], name: str) -> Any:
    for alias in ALIASES[name]:
        if (value := attributes.get(alias)) is not None:
            return value
    return None


def _parsed(told: Any) -> Any:
    """Return lists of objects as such; senders without them write JSON text."""
    if not isinstance(told, str):
        return told
    try:
        return json.loads(told)
    except (ValueError, RecursionError):
        return None


def _objects(told: Any) -> Iterable[Mapping[str, Any]]:
    found = _parsed(told)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(told: Any) -> str | None:
    return told if isinstance(told, str) and told else None


def _texts(told: Any) -> tuple[str, ...]:
    if isinstance(told, str):
        return (told,)
    return tuple(one for one in told if isinstance(one, str)) if isinstance(told, list) else ()


def _is_number(told: Any) -> bool:
    return isinstance(told, int | float) and not isinstance(told, bool)


def _whole(told: Any) -> int | None:
    if isinstance(told, str) and told.isascii() and told.isdigit() and len(told) < 17:
        told = int(told)
    if not _is_number(told) or told != int(told) or not 0 <= told <= _MOST_TOKENS:
        return None
    return int(told)
