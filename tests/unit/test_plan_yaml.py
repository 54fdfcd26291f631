from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_console.core.strict_json import INT_MAX, JsonRefused, json_load
from rollout_console.rollouts.plan_diff import plan_diff
from rollout_console.rollouts.plan_yaml import (
    PlanUnreadable,
    plan_json_load,
    yaml_dump,
    yaml_load,
)


def test_values_come_with_their_lines() -> None:
    read = yaml_load("a: 1\nb:\n  - x: y\n  - {z: [1,\n   2]}\n")

    assert read.value == {"a": 1, "b": [{"x": "y"}, {"z": [1, 2]}]}
    assert {pointer: read.lines[pointer] for pointer in ("/a", "/b/0/x", "/b/1/z/1")} == {
        "/a": 1,
        "/b/0/x": 3,
        "/b/1/z/1": 5,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-24", "2026-11-24"),
        ("2026.11.2", "2026.11.2"),
        ("2026.10", 2026.10),
        ('"2026.10"', "2026.10"),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("true", True),
        ("~", None),
        ("1e3", 1000.0),
        ("-7", -7),
        ("'null'", "null"),
    ],
)
def test_a_word_means_what_it_means_in_yaml_1_2(text: str, value: Any) -> None:
    read = yaml_load(f"a: {text}").value["a"]

    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "empty"),
        ("a: 1\na: 2", 2, "stands twice"),
        ("a: [1\nb: 2", 2, "Not YAML"),
        ("a: 1\n---\nb: 2", 2, "One plan a file"),
        ("a: !!python/name:os.system x", 1, "Tags"),
        ("1: x", 1, "A key must be text"),
        ("? [a]\n: x", 1, "A key must be text"),
        ("a: .nan", 1, "NaN"),
        ("a: 1e999", None, "NaN and infinity"),
        ("a: 9007199254740992", None, r"2\^53"),
        ("a: \x00", 1, "NUL"),
        ('a: "\\0"', None, "NUL"),
        ("a: *b", 1, "Not YAML|no anchor"),
        ("a: &a [*a]", 1, "aliases counted"),
        ("[" * 60, 1, "levels"),
        ("[" * 500_000, 1, "levels"),
        ("a: " + "x" * 1_100_000, None, "1 MiB"),
        ("- 1\n" * 200_000, None, "values"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(PlanUnreadable, match=words) as refused:
        yaml_load(text)

    if line is not None:
        assert refused.value.line == line


def test_aliases_do_not_blow_up() -> None:
    names = "abcdefghi"
    lines = [f"a: &a [{', '.join('1' * 9)}]"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")

    with pytest.raises(PlanUnreadable, match="aliases counted"):
        yaml_load("\n".join(lines))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-INT_MAX, max_value=INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
    | st.sampled_from(["no", "1e5", "0x1", "12:30", "~", ".5", "1.", "<<", "=", "a: b", " a\n b"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc1 :#-", min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(plain)
def test_what_is_written_reads_back(value: Any) -> None:
    assert yaml_load(yaml_dump({"value": value})).value == {"value": value}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "NaN",
        "[Infinity]",
        "1e999",
        "9007199254740992",
        "9" * 5000,
        '{"a": 1, "a": 2}',
        '"\\u0000"',
        '"\\ud800"',
        "[" * 100_000,
        "[" * 60 + "]" * 60,
        b"\xff",
        "1 2",
    ],
)
def test_json_is_strict(text: str | bytes) -> None:
    with pytest.raises(JsonRefused):
        json_load(text)
    with pytest.raises(PlanUnreadable):
        plan_json_load(text)


def test_a_diff_names_items_by_slug() -> None:
    before = {"a": [{"slug": "x", "n": 1}, {"slug": "y", "n": 2}], "gone": True}
    after = {"a": [{"slug": "new", "n": 0}, {"slug": "x", "n": 1.0}, {"slug": "y", "n": 3}]}

    assert plan_diff(before, after) == [
        "added a[new].slug: new",
        "added a[new].n: 0",
        "changed a[y].n: 2 → 3",
        "removed gone: true",
    ]
