"""The built-in mappings on small samples of our own."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rollout_console.replay.items import Item, Refusal
from rollout_console.replay.library import MappingRefused, mapping_load, mapping_names
from rollout_console.replay.sources import TraceFile
from rollout_console.replay.trace import Trace

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def found(name: str, *samples: str) -> list[Item | Refusal]:
    mapping = mapping_load(name)
    files = [TraceFile(SAMPLES / sample, mapping.source, names=mapping.names) for sample in samples]
    return list(Trace(files, mapping, mapping.workflow["slug"]).items())


def fields(name: str, *samples: str) -> list[dict[str, Any]]:
    items = found(name, *samples)
    assert all(isinstance(item, Item) for item in items), items
    return [item.fields for item in items if isinstance(item, Item)]


def test_azure() -> None:
    first, second, third, fourth = fields("azure-llm-2023", "azure_code.csv", "azure_conv.csv")

    assert first == {
        "workflow": "azure-llm-2023",
        "id": "azure_code.csv:1",
        "occurred_at": datetime(2026, 3, 1, 9, 0, 0, 123456, tzinfo=UTC),
        "path": "code",
        "release": None,
        "outcome": "ok",
        "input_tokens": 1200,
        "output_tokens": 40,
    }
    # Cut off, not rounded into the next minute.
    assert second["occurred_at"] == datetime(2026, 3, 1, 9, 0, 59, 999999, tzinfo=UTC)
    assert (third["output_tokens"], third["id"]) == (0, "azure_code.csv:3")
    assert (fourth["path"], fourth["id"]) == ("conversation", "azure_conv.csv:1")


def test_aider() -> None:
    items = found("aider-telemetry", "aider.jsonl")
    first, second, undone, failed, unknown, lost = items

    assert isinstance(first, Item)
    assert first.fields == {
        "workflow": "aider",
        "id": "aider.jsonl:3",
        "occurred_at": datetime.fromtimestamp(1732990022, UTC),
        "path": "diff",
        "release": "claude-x",
        "route": "anthropic/claude-x",
        "segment": "aider-team",
        "subject": "u1",
        "outcome": "ok",
        "latency_ms": 12000,
        "cost_usd": 0.02,
        "input_tokens": 900,
        "output_tokens": 30,
    }
    # No start of its own, and a price that is not known.
    assert isinstance(second, Item)
    assert second.fields.keys().isdisjoint({"latency_ms", "cost_usd"})
    assert second.fields["release"] == "openrouter-REDACTED"
    assert isinstance(undone, Item)
    assert undone.kind == "observation"
    assert undone.fields == {
        "workflow": "aider",
        "id": "aider.jsonl:5",
        "run_id": "aider.jsonl:4",
        "run_occurred_at": datetime.fromtimestamp(1732990030, UTC),
        "occurred_at": datetime.fromtimestamp(1732990040, UTC),
        "kind": "feedback",
        "value": "undo",
    }
    assert isinstance(failed, Item)
    assert (failed.fields["outcome"], failed.fields["failure_category"]) == ("error", "connection")
    assert (failed.fields["path"], failed.fields["latency_ms"]) == ("unknown", 1000)
    assert isinstance(unknown, Item)
    assert (unknown.fields["release"], "subject" in unknown.fields) == (None, False)
    assert isinstance(lost, Refusal)
    assert (lost.place.row, lost.pointer) == (9, "/run_id")


def test_tau2() -> None:
    first, second = fields("tau2-support", "tau2.json")

    assert first == {
        "workflow": "tau2-support",
        "id": "s-1",
        "occurred_at": datetime(2026, 3, 1, 9, 0, 14, 250, tzinfo=UTC),
        "path": "retail",
        "release": "ft-gpt-4.1",
        "arm": "candidate",
        "route": "ft:gpt-4.1-2025-04-14:someone:x",
        "outcome": "escalated",
        "latency_ms": 12500,
        "input_tokens": 250,
        "output_tokens": 10,
        "steps": 4,
        "tool_calls": 2,
        "quality": {"score": 1.0, "passed": True},
        "attributes": {"task": "1", "ended": "user_stop"},
    }
    assert (second["outcome"], second["failure_category"]) == ("error", "max_steps")
    assert second["cost_usd"] == 0.03
    # A reward that is not there is no failure.
    assert second.keys().isdisjoint({"quality", "input_tokens"})


def test_the_example_in_the_docs(tmp_path: Path) -> None:
    docs = SAMPLES.parents[1] / "docs" / "replay.md"
    (tmp_path / "triage.yaml").write_text(docs.read_text().split("```yaml\n")[1].split("```")[0])
    mapping = mapping_load(str(tmp_path / "triage.yaml"))
    task = {
        "kind": "task",
        "task": {"id": "t-1", "queue": "Late Parcels"},
        "finished": "2026-07-01T10:00:00",
        "status": 418,
        "started_s": 10,
        "finished_s": 12.5,
        "grade": 4,
        "messages": [{"role": "assistant", "usage": {"prompt_tokens": 9}}, {"role": "user"}],
    }
    trace = tmp_path / "trace.json"
    trace.write_text(
        json.dumps({"info": {"build": "blue"}, "result": {"tasks": [task, {"kind": "note"}]}})
    )

    (item,) = Trace(
        [TraceFile(trace, mapping.source, names=mapping.names)], mapping, "triage"
    ).items()

    assert isinstance(item, Item)
    assert item.fields == {
        "workflow": "triage",
        "id": "t-1",
        "occurred_at": datetime(2026, 7, 1, 8, tzinfo=UTC),
        "path": "late-parcels",
        "release": "2026.11.1",
        "outcome": "escalated",
        "latency_ms": 2500,
        "input_tokens": 9,
        "quality": {"score": 0.8, "passed": True},
        "attributes": {"queue": "Late Parcels"},
    }


def test_an_unknown_name_is_told_the_nearest() -> None:
    assert mapping_names() == [
        "aider-telemetry",
        "arena-votes",
        "azure-llm-2023",
        "mtrag-human",
        "nab-series",
        "tau-airline-gpt-4o",
        "tau2-support",
    ]
    with pytest.raises(MappingRefused, match="did you mean “azure-llm-2023”"):
        mapping_load("azure-llm-2032")
    with pytest.raises(MappingRefused, match="There is no mapping file nowhere"):
        mapping_load("nowhere/mine.yaml")


def test_every_fault_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: 1\n"
        "source: {format: cvs}\n"
        "workflow: {slug: mine, paths: [{slug: a.b}]}\n"
        "runs:\n"
        "  occurred_at: {time: at, format: local}\n"
        "  path: {const: a, map: b}\n"
        "  outcom: {const: ok}\n"
        "  latency_ms: 1000 * (duration\n"
        "  subject: $user\n"
    )
    with pytest.raises(MappingRefused) as refused:
        mapping_load(str(file))
    told = str(refused.value)
    for words in (
        f"{file}:2: /source/format: “cvs” is not known; did you mean “csv”?",
        f"{file}:3: /workflow/paths/0/slug: ",
        f"{file}:5: /runs/occurred_at/zone: A local time needs",
        f"{file}:6: /runs/path: A value is an expression, or has const, map or time.",
        f"{file}:7: /runs/outcom: “runs” has no “outcom”; did you mean “outcome”?",
        f"{file}:8: /runs/latency_ms: Not an expression: “)” is missing at its end.",
        f"{file}:9: /runs/subject: There is no $user; there are $each, $file, $head, $joined,",
        "/runs/outcome: “runs” needs “outcome”.",
    ):
        assert words in told
