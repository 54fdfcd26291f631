"""Spans in every convention, put together to runs: exact values, whatever order they come in."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.otlp.aliases import Facts, Work, facts_of
from signals.otlp.assemble import trace_assemble
from signals.otlp.content import without_content
from signals.otlp.mapping import Known, mapping_read
from signals.otlp.prices import PriceSheet, sheet_read
from signals.otlp.spans import Source, Span

PLACED: dict[str, Any] = {
    "rollout.workflow": "support",
    "rollout.path": "refunds",
    "service.version": "7",
}
WORKFLOWS = {"support": Known(1, ("refunds", "answers")), "claims": Known(2, ("review",))}
START = 1_795_000_000_000_000_000


def span(
    name: str,
    parent: str | None = None,
    *,
    at: int = 0,
    ms: int = 100,
    scope: str = "app",
    resource: dict[str, Any] | None = None,
    status: int = 0,
    **attributes: Any,
) -> Span:
    of = PLACED if resource is None else resource
    return Span(
        trace_id="t",
        span_id=name,
        parent_id=parent,
        name=name,
        kind=1,
        start_ns=START + at * 1_000_000,
        end_ns=START + (at + ms) * 1_000_000,
        status=status,
        source=Source(UUID(int=1), {"attributes": of}, {"name": scope}),
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
    )


def chat(name: str, parent: str | None = None, **more: Any) -> Span:
    told = {
        "gen_ai__operation__name": "chat",
        "gen_ai__request__model": "gpt-4o",
        "gen_ai__response__model": "gpt-4o-2024-08-06",
        "gen_ai__usage__input_tokens": 100,
        "gen_ai__usage__output_tokens": 10,
    }
    return span(name, parent, **{**told, **more})


def run_of(*spans: Span, **options: Any) -> dict[str, Any]:
    (found,) = trace_assemble(spans, workflows=options.pop("workflows", WORKFLOWS), **options).found
    assert found.item is not None, found.fault
    return found.item


@pytest.mark.parametrize(
    "attributes",
    [
        {  # until 1.36
            "gen_ai.system": "openai",
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.prompt_tokens": 29,
            "gen_ai.usage.completion_tokens": 9,
            "gen_ai.usage.cache_read_input_tokens": 3,
            "gen_ai.usage.cache_creation_input_tokens": 2,
            "gen_ai.usage.reasoning_tokens": 4,
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
        },
        {  # 1.37 to 1.41
            "gen_ai.provider.name": "openai",
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 29,
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "gen_ai.usage.cache_creation.input_tokens": 2,
            "gen_ai.usage.reasoning.output_tokens": 4,
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
        },
        {  # the conventions' own repository; an old name beside the new one is not read
            "gen_ai.provider.name": "openai",
            "gen_ai.system": "other",
            "gen_ai.operation.name": "generate_content",
            "gen_ai.usage.input_tokens": 29,
            "gen_ai.usage.prompt_tokens": 1,
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "gen_ai.usage.cache_write.input_tokens": 2,
            "gen_ai.usage.cache_creation.input_tokens": 77,
            "gen_ai.usage.reasoning.output_tokens": 4,
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
        },
        {  # OpenInference
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.invocation_parameters": '{"model": "gpt-4o"}',
            "llm.model_name": "gpt-4o-2024-08-06",
            "llm.token_count.prompt": 29,
            "llm.token_count.completion": 9,
            "llm.token_count.prompt_details.cache_read": 3,
            "llm.token_count.prompt_details.cache_write": 2,
            "llm.token_count.completion_details.reasoning": 4,
        },
        {  # Traceloop
            "llm.request.type": "chat",
            "llm.vendor": "openai",
            "llm.request.model": "gpt-4o",
            "llm.response.model": "gpt-4o-2024-08-06",
            "llm.usage.prompt_tokens": "29",
            "llm.usage.completion_tokens": 9.0,
            "gen_ai.usage.cache_read_input_tokens": 3,
            "gen_ai.usage.cache_creation_input_tokens": 2,
            "gen_ai.usage.reasoning_tokens": 4,
        },
    ],
)
def test_every_generation_says_the_same(attributes: dict[str, Any]) -> None:
    assert facts_of(attributes) == Facts(
        work=Work.MODEL,
        provider="openai",
        model_requested="gpt-4o",
        model_served="gpt-4o-2024-08-06",
        tokens_in=29,
        tokens_out=9,
        tokens_cache_read=3,
        tokens_cache_write=2,
        tokens_reasoning=4,
    )


@pytest.mark.parametrize(
    ("attributes", "work"),
    [
        ({"gen_ai.operation.name": "embeddings"}, Work.EMBEDDINGS),
        ({"gen_ai.operation.name": "execute_tool"}, Work.TOOL),
        ({"gen_ai.operation.name": "retrieval"}, Work.RETRIEVAL),
        ({"gen_ai.operation.name": "invoke_agent"}, Work.AGENT),
        ({"gen_ai.operation.name": "run_guardrail"}, Work.OTHER),
        ({"openinference.span.kind": "TOOL"}, Work.TOOL),
        ({"openinference.span.kind": "RETRIEVER"}, Work.RETRIEVAL),
        ({"traceloop.span.kind": "tool"}, Work.TOOL),
        ({"traceloop.span.kind": "task"}, Work.OTHER),
        ({"http.method": "GET"}, None),
    ],
)
def test_the_kind_of_work(attributes: dict[str, Any], work: Work | None) -> None:
    assert facts_of(attributes).work is work


def test_a_workflow_s_name_moved_into_the_agent_s() -> None:
    new = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": "support"}
    old = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "support"}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
    assert facts_of(new).workflow == facts_of(old).workflow == "support"
    assert facts_of(agent).workflow is None


def test_tools_asked_for_and_documents_found_are_counted() -> None:
    tools = {
        "openinference.span.kind": "LLM",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "a",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "1",
        "llm.output_messages.0.message.tool_calls.1.tool_call.function.name": "b",
    }
    assert facts_of(tools).tool_requests == 2
    spoken = '[{"role": "assistant", "parts": [{"type": "tool_call"}, {"type": "text"}]}]'
    assert facts_of({"gen_ai.output.messages": spoken}).tool_requests == 1
    assert facts_of({"gen_ai.response.finish_reasons": ["tool_calls"]}).tool_requests == 1
    found = facts_of(
        {
            "openinference.span.kind": "RETRIEVER",
            "retrieval.documents.0.document.id": "x",
            "retrieval.documents.0.document.score": 0.4,
            "retrieval.documents.1.document.score": 0.9,
            "retrieval.documents.2.document.score": 17.2,
        }
    )
    assert (found.documents, found.retrieval_score) == (3, 0.9)
    none = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": "[]"}
    assert facts_of(none).documents == 0


def test_a_run_is_its_topmost_placed_span_and_what_is_under_it() -> None:
    run = run_of(
        span("http", resource={}),
        span("agent", "http", ms=900, gen_ai__operation__name="invoke_agent",
             gen_ai__usage__input_tokens=999),
        chat("ask", "agent", at=10),
        span("tool", "agent", at=120, gen_ai__operation__name="execute_tool"),
        span("search", "agent", at=230, gen_ai__operation__name="retrieval",
             gen_ai__retrieval__documents=[{"score": 0.5}, {"score": 0.7}]),
        chat("answer", "agent", at=400, gen_ai__usage__cache_read__input_tokens=60),
    )  # fmt: skip
    told = {name: run[name] for name in run if name not in ("attributes", "measures")}
    assert told == {
        "id": "t-agent",
        "occurred_at": datetime.fromtimestamp(START / 1e9, UTC).isoformat(),
        "workflow": "support",
        "path": "refunds",
        "release": "7",
        "latency_ms": 900.0,
        "trace_id": "t",
        "outcome": "ok",
        "retries": 0,
        "steps": 4,
        "tool_calls": 1,
        "retrieved": 2,
        "retrieval_score": 0.7,
        "input_tokens": 200,
        "output_tokens": 20,
    }
    assert run["measures"] == {"tokens_cache_read": 60}
    assert run["attributes"]["model"] == "gpt-4o-2024-08-06"


def test_failures_and_the_tries_after_them() -> None:
    again = run_of(
        span("root", ms=900),
        chat("one", "root", status=2, error__type="timeout", gen_ai__usage__input_tokens=None),
        chat("two", "root", at=200, status=2, gen_ai__usage__input_tokens=None),
        chat("three", "root", at=400),
        chat("beside", "root", at=400, gen_ai__request__model="other"),
    )  # fmt: skip
    assert (again["retries"], again["outcome"], again["input_tokens"]) == (2, "ok", 200)
    lost = run_of(span("root"), chat("one", "root", status=2, error__type="timeout"))
    assert (lost["outcome"], lost["failure_category"]) == ("error", "timeout")
    # A call that answered and told no tokens makes the sum unknown, not smaller.
    blind = run_of(span("root"), chat("one", "root"), chat("two", "root", at=200,
                   gen_ai__usage__input_tokens=None))  # fmt: skip
    assert "input_tokens" not in blind
    assert blind["output_tokens"] == 20


def test_calls_reported_twice_count_once() -> None:
    other: dict[str, Any] = {
        "scope": "oi",
        "openinference__span__kind": "LLM",
        "llm__model_name": "gpt-4o-2024-08-06",
        "llm__token_count__prompt": 100,
        "llm__token_count__completion": 10,
    }
    nested = [span("root", ms=500), chat("a", "root"), span("b", "a", at=1, ms=98, **other)]
    beside = [span("root", ms=500), chat("a", "root"), span("b", "root", at=1, ms=98, **other)]
    for spans in (nested, beside):
        (found,) = trace_assemble(spans, workflows=WORKFLOWS).found
        assert found.item is not None
        assert (found.item["input_tokens"], found.item["steps"]) == (100, 1)
        assert len(found.duplicates) == 1
    # Another answer, another time, or the same instrumentation: two calls.
    for apart in (
        span("b", "root", at=1, ms=98, **{**other, "llm__token_count__completion": 11}),
        span("b", "root", at=90, ms=98, **other),
        chat("b", "root", at=1, ms=98),
    ):
        (found,) = trace_assemble([*nested[:2], apart], workflows=WORKFLOWS).found
        assert found.item is not None
        assert found.item["steps"] == 2
        assert found.duplicates == ()


def test_a_dropped_scope_is_left_out_and_what_is_under_it_is_not() -> None:
    mapping, _ = mapping_read({"drop_scopes": ["noisy"]}, paths=["refunds"])
    assert mapping is not None
    known = {"support": Known(1, ("refunds",), mapping)}
    run = run_of(
        chat("outer", scope="noisy", gen_ai__usage__input_tokens=5000),
        chat("inner", "outer"),
        workflows=known,
    )
    assert (run["id"], run["input_tokens"]) == ("t-inner", 100)


def test_rules_say_what_belongs_where() -> None:
    mapping, faults = mapping_read(
        {
            "rules": [
                {
                    "match": {"service.name": "assistant", "attributes": {"http.route": "/r"}},
                    "path": "refunds",
                    "release": {"attribute": "app.release"},
                    "segment": "internal-ops",
                    "subject": {"attribute": "enduser.pseudo.id"},
                },
                {"match": {"scope": "app"}, "path": "answers", "release": "9"},
            ]
        },
        paths=["answers", "refunds"],
    )
    assert faults == []
    assert mapping is not None
    known = {"support": Known(1, ("answers", "refunds"), mapping)}
    resource = {"service.name": "assistant", "app.release": "8"}
    first = run_of(
        chat("a", resource=resource, http__route="/r", enduser__pseudo__id="u1"), workflows=known
    )
    assert [first[name] for name in ("path", "release", "segment", "subject")] == [
        *("refunds", "8", "internal-ops", "u1")
    ]
    second = run_of(chat("a", resource=resource), workflows=known)
    assert (second["path"], second["release"]) == ("answers", "9")
    by_name = {"claims": Known(2, ("review",)), "support": Known(1, ("a", "b"))}
    for service, path in (("claims", "review"), ("support.b", "b")):
        of = {"service.name": service, "service.version": "1"}
        assert run_of(chat("a", resource=of), workflows=by_name)["path"] == path


def test_a_mapping_that_does_not_fit_is_told_by_pointer() -> None:
    document = {
        "rules": [
            {"match": {}, "path": "nowhere"},
            {"match": {"service": "x"}, "path": "refunds", "subject": "ann", "segment": "No"},
            7,
        ],
        "drop_scopes": [""],
        "more": 1,
    }
    mapping, faults = mapping_read(document, paths=["refunds"])
    assert mapping is None
    assert {fault["pointer"] for fault in faults} == {
        "/more",
        "/rules/0/path",
        "/rules/0/match",
        "/rules/1/match/service",
        "/rules/1/segment",
        "/rules/1/subject",
        "/rules/2",
        "/drop_scopes/0",
    }


SHEET = {
    "models": {
        "gpt-4o": [
            {"input": 1, "output": 1},
            {"since": "2026-01-01T00:00:00Z", "input": "0.0000025", "output": "1e-5",
             "cache_read": 1.25e-06},
            {"since": "2100-01-01T00:00:00Z", "input": 9, "output": 9},
        ],
    }
}  # fmt: skip


def sheet() -> PriceSheet:
    found, faults = sheet_read(SHEET)
    assert faults == []
    assert found is not None
    return found


def test_a_run_costs_what_its_tokens_do_exactly() -> None:
    run = run_of(
        span("root"),
        chat("a", "root", gen_ai__usage__cache_read__input_tokens=60),
        chat("b", "root", at=200),
        prices=sheet(),
    )
    expected = (
        40 * Decimal("0.0000025") + 60 * Decimal("0.00000125") + 10 * Decimal("0.00001")
        + 100 * Decimal("0.0000025") + 10 * Decimal("0.00001")
    )  # fmt: skip
    assert Decimal(run["cost_usd"]) == expected
    assert run["cost_known"] is True


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"gen_ai__request__model": "x", "gen_ai__response__model": "x"}, "no price for x"),
        ({"gen_ai__usage__cache_write__input_tokens": 5}, "cache write tokens"),
        ({"gen_ai__usage__cache_read__input_tokens": 500}, "more cached tokens"),
        ({"gen_ai__usage__output_tokens": None}, "told no tokens"),
    ],
)
def test_what_nobody_priced_is_unknown_and_never_free(more: dict[str, Any], reason: str) -> None:
    run = run_of(span("root"), chat("a", "root"), chat("b", "root", at=200, **more), prices=sheet())
    assert "cost_usd" not in run
    assert reason in run["attributes"]["cost_unknown"]


def test_a_price_sheet_that_does_not_fit_is_told_by_pointer() -> None:
    document = {
        "unit": "euro",
        "models": {
            "a/b": {"input": -1},
            "c": [{"input": 1, "since": "yesterday"}, {"output": "x"}, {}],
            "d": [{"input": 1}, {"input": 2}],
        },
    }
    found, faults = sheet_read(document)
    assert found is None
    assert [fault["pointer"] for fault in faults] == [
        "/unit",
        "/models/a~1b/input",
        "/models/c/0/since",
        "/models/c/1/output",
        "/models/c/2",
        "/models/d/1/since",
    ]


def test_spans_that_are_their_own_ancestors_are_a_run_once() -> None:
    spans = [chat("a", "c"), chat("b", "a", at=1), span("c", "b", at=2)]
    run = run_of(*spans)
    # Two model calls, one inside the other, are one call.
    assert (run["id"], run["steps"]) == ("t-a", 1)


names = st.sampled_from("abcdefgh")


@st.composite
def forests(draw: st.DrawFn) -> list[Span]:
    spans = []
    for name in draw(st.lists(names, unique=True, min_size=1)):
        make = draw(st.sampled_from([span, chat]))
        spans.append(
            make(
                name,
                draw(st.none() | names),
                at=draw(st.integers(0, 300)),
                ms=draw(st.integers(0, 300)),
                scope=draw(st.sampled_from(["app", "oi"])),
                status=draw(st.sampled_from([0, 2])),
                resource=draw(st.sampled_from([PLACED, {}])),
            )
        )
    return spans


@given(spans=forests(), shuffled=st.randoms(use_true_random=False))
def test_the_order_of_spans_changes_nothing_and_no_span_is_under_two_runs(
    spans: list[Span], shuffled: Any
) -> None:
    found = trace_assemble(spans, workflows=WORKFLOWS, prices=sheet())
    again = [*spans, *spans]
    shuffled.shuffle(again)
    assert trace_assemble(again, workflows=WORKFLOWS, prices=sheet()) == found
    under = [span_id for one in found.found for span_id in one.span_ids]
    assert len(under) == len(set(under))
    # What was counted is not counted again, nor over or under itself.
    roots = {one.root.span_id for one in found.found}
    assert trace_assemble(spans, workflows=WORKFLOWS, counted=roots).found == ()


def test_what_people_wrote_is_hidden_and_the_rest_shown() -> None:
    shown, hidden = without_content(
        {
            "gen_ai.prompt.0.content": "my card is",
            "gen_ai.prompt.name": "refund-policy",
            "llm.input_messages.0.message.content": "my card is",
            "input.value": "{}",
            "gen_ai.usage.input_tokens": 3,
            "traceloop.entity.output": "x",
            "exception.message": "bad card",
        }
    )
    assert shown == {"gen_ai.prompt.name": "refund-policy", "gen_ai.usage.input_tokens": 3}
    assert len(hidden) == 5
