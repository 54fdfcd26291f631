"""A workflow as somebody else would write it: the OpenAI client and unmodified instrumentations.

Run as a process of its own, since instrumentations patch what they instrument. Does six tasks,
sends its telemetry and prints one JSON line: the milliseconds of each task, by model.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import openai
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "issue_refund", "parameters": {"type": "object"}}}
]
ASKED: list[Any] = [{"role": "user", "content": "May I have my money back?"}]


def instrument(name: str) -> None:
    if name == "openai_v2":
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as OpenAIv2

        OpenAIv2().instrument()  # type: ignore[no-untyped-call]
    elif name == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference

        OpenInference().instrument()
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Traceloop

        Traceloop().instrument()


def exporter(protocol: str, endpoint: str, headers: dict[str, str]) -> Any:
    if protocol == "json":
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as Json

        return Json(endpoint=f"{endpoint}/v1/traces", headers=headers)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(
        endpoint=f"{endpoint}/v1/traces", headers=headers, compression=Compression.Gzip
    )


def tasks(client: openai.OpenAI) -> dict[str, Callable[[], Any]]:
    chat = client.chat.completions.create
    return {
        "gpt-4o-mini": lambda: chat(model="gpt-4o-mini", messages=ASKED),
        "gpt-4o": lambda: chat(model="gpt-4o", messages=ASKED, tools=TOOLS),
        "gpt-4o-slow": lambda: list(
            chat(
                model="gpt-4o-slow",
                messages=ASKED,
                stream=True,
                stream_options={"include_usage": True},
            )
        ),
        "text-embedding-3-small": lambda: client.embeddings.create(
            model="text-embedding-3-small", input="money"
        ),
        "gpt-4o-fail-429": lambda: chat(model="gpt-4o-fail-429", messages=ASKED),
        "gpt-4o-fail-500": lambda: chat(model="gpt-4o-fail-500", messages=ASKED),
    }


def main(instrumentations: str, protocol: str, endpoint: str, token: str, model_url: str) -> None:
    resource = Resource.create(
        {
            "service.name": "support-assistant",
            "service.version": "2026.11.2",
            "rollout.workflow": "support",
            "rollout.path": "refunds",
        }
    )
    provider = TracerProvider(resource=resource)
    told = {"Authorization": f"Bearer {token}"}
    provider.add_span_processor(BatchSpanProcessor(exporter(protocol, endpoint, told)))
    trace.set_tracer_provider(provider)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{endpoint}/v1/logs", headers=told))
    )
    set_logger_provider(logs)
    for name in instrumentations.split("+"):
        instrument(name)
    client = openai.OpenAI(base_url=model_url, api_key="none", max_retries=0)
    tracer = trace.get_tracer("app")
    took: dict[str, float] = {}
    for model, task in tasks(client).items():
        began = time.perf_counter()
        try:
            with tracer.start_as_current_span("answer"):
                task()
        except openai.APIStatusError:
            pass
        took[model] = (time.perf_counter() - began) * 1000
    assert provider.force_flush()
    assert logs.force_flush()
    provider.shutdown()
    logs.shutdown()
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
