"""Trace files of every kind, whole and broken, record by record."""

import gzip
import io
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_console.replay.json_stream import JsonBroken, JsonItems
from rollout_console.replay.mapping import Source
from rollout_console.replay.sources import Record, SourceRefused, TraceFile

CSV = Source("csv")
JSONL = Source("jsonl")
ROWS = Source("json", records=("rows",), head=frozenset({"about"}))


def read(
    path: Path, content: bytes, source: Source, names: frozenset[str] = frozenset()
) -> tuple[list[Record], TraceFile]:
    path.write_bytes(content)
    file = TraceFile(path, source, names=names)
    return list(file.records()), file


@pytest.mark.parametrize("packed", [False, True])
def test_the_three_formats_plain_and_packed(tmp_path: Path, packed: bool) -> None:
    pack = gzip.compress if packed else bytes
    path = tmp_path / ("t.gz" if packed else "t")
    records, file = read(path, pack(b'\xef\xbb\xbfa,b\r\n1,"x,\ny"\r\n\r\n,2\r\n'), CSV)
    assert [record.values for record in records] == [
        {"a": "1", "b": "x,\ny"},
        {"a": None, "b": "2"},
    ]
    assert (file.name, file.position()) == ("t", file.size)
    records, _ = read(path, pack(b'{"a":1}\n\n{"a":2}'), JSONL)
    assert [(record.row, record.values) for record in records] == [(1, {"a": 1}), (3, {"a": 2})]
    records, file = read(path, pack(b'{"about":{"x":1},"z":[[]],"rows":[{"a":1},{"a":2}]}'), ROWS)
    assert [record.values for record in records] == [{"a": 1}, {"a": 2}]
    assert file.head == {"about": {"x": 1}}


def test_garbage_costs_its_own_record(tmp_path: Path) -> None:
    lines = b'{"a":1}\nnot json\n[1]\n{"a":NaN}\n\xff\xfe\n{"a":2}\n'
    records, file = read(tmp_path / "t", lines, JSONL)
    assert [record.row for record in records if record.values is None] == [2, 3, 4, 5]
    assert [record.values for record in records if record.values] == [{"a": 1}, {"a": 2}]
    assert records[2].fault == "A record must be a JSON object."

    records, _ = read(tmp_path / "t", b"a,b\n1,2\n1\n\xff,2\n1,2,3\n3,4\n", CSV)
    assert [record.fault for record in records] == [
        "",
        "The row has 1 cells, the header has 2.",
        "The row is not UTF-8 at byte 1.",
        "The row has 3 cells, the header has 2.",
        "",
    ]

    records, file = read(tmp_path / "t", b'{"rows":[{"a":1},{"a":x},7,{"a":2}]}', ROWS)
    assert [record.values for record in records] == [{"a": 1}, None, None, {"a": 2}]
    assert file.broken == ""


def test_a_file_cut_short_keeps_what_came_before(tmp_path: Path) -> None:
    noise = random.Random(1)
    lines = b"".join(b'{"a":%d,"b":"%x"}\n' % (n, noise.getrandbits(90)) for n in range(2000))
    records, file = read(tmp_path / "t.gz", gzip.compress(lines)[:-2000], JSONL)
    good = [record for record in records if record.values]
    assert 100 < len(good) < 2000
    assert [record.values["a"] for record in good if record.values] == list(range(len(good)))
    assert records[-1].fault == file.broken == "The gzip data end too early."

    records, file = read(tmp_path / "t", b'{"rows":[{"a":1},{"a":', ROWS)
    assert [record.values for record in records] == [{"a": 1}, None]
    assert "ends too early" in file.broken


def test_a_file_of_another_kind_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with pytest.raises(SourceRefused, match="no column “when”; did you mean “When”"):
        read(path, b"When,n\n1,2\n", CSV, frozenset({"when", "n"}))
    with pytest.raises(SourceRefused, match="is empty"):
        read(path, b"", CSV)
    with pytest.raises(SourceRefused, match=r"there is no “rows”"):
        read(path, b'{"data":[]}', ROWS)
    with pytest.raises(SourceRefused, match=r"there is no list at rows\[\]"):
        read(path, b'{"rows":{}}', ROWS)
    with pytest.raises(SourceRefused, match="No such file"):
        list(TraceFile(tmp_path / "none", CSV, names=frozenset()).records())


def test_memory_stays_small_however_large_the_file(tmp_path: Path) -> None:
    row = json.dumps({"a": "x" * 1000})
    path = tmp_path / "t.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"skipped":[' + ",".join([row] * 20_000) + '],"rows":[')
        file.write(",".join([row] * 20_000) + "]}")
    tracemalloc.start()
    n = sum(1 for _ in TraceFile(path, ROWS, names=frozenset()).records())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 20_000
    assert most < 4 * 1024 * 1024


_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.lists(_value, max_size=5),
    st.dictionaries(st.sampled_from(["x", "y"]), _value, max_size=2),
    st.integers(1, 30),
    st.sampled_from([None, 1]),
)
def test_items_are_found_wherever_chunks_end(
    items: list[Any], around: dict[str, Any], chunk: int, indent: int | None
) -> None:
    text = json.dumps({**around, "a": {"b": items}, "end": around}, indent=indent).encode()
    stream = io.BytesIO(text)
    found = JsonItems(lambda _: stream.read(chunk), steps=("a", "b"), head={"x"})
    assert [json.loads(item) for item in found] == items
    assert found.head == {key: value for key, value in around.items() if key == "x"}
    assert stream.read() == b""


@given(st.binary(max_size=60))
def test_any_bytes_give_items_or_a_refusal(content: bytes) -> None:
    stream = io.BytesIO(content)
    try:
        for item in JsonItems(stream.read, steps=()):
            assert item in content
    except JsonBroken as refused:
        assert "at byte" in str(refused)  # noqa: PT017  # either is an answer
