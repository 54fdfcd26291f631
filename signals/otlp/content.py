"""Which attributes hold what people wrote or read, so that pages leave them out. Pure."""

from collections.abc import Mapping
from typing import Any, Final

# A key that is one of these, or goes on after it with a dot, is content.
CONTENT: Final = (
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.content",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.query",
    "gen_ai.retrieval.documents",
    "gen_ai.evaluation.explanation",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts",
    "llm.choices",
    "llm.completions",
    "llm.function_call",
    "llm.prompt_template",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "traceloop.prompt.template_variables",
    "input",
    "output",
    "tool.parameters",
    "retrieval.documents",
    "reranker",
    "embedding.embeddings",
    "embedding.text",
    "exception.message",
    "exception.stacktrace",
    "db.statement",
    "db.query",
)
# The name of a prompt is no prompt.
NAMES: Final = frozenset({"gen_ai.prompt.name"})


def is_content(key: str) -> bool:
    """Return whether an attribute of this name may hold a person's words."""
    if key in NAMES:
        return False
    return any(key == head or key.startswith(f"{head}.") for head in CONTENT)


def without_content(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes that a page may show, and the names of those it may not."""
    hidden = sorted(key for key in attributes if is_content(key))
    return {key: value for key, value in attributes.items() if not is_content(key)}, hidden
