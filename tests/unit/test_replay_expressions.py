"""The language of mappings: what it computes, what it refuses, and that nothing else comes out."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_console.replay.expressions import ExpressionInvalid, expression_read
from rollout_console.replay.functions import ValueRefused
from rollout_console.replay.times import time_of, zone_of

RECORD: dict[str, Any] = {
    "duration": 1.5,
    "cell": "200",
    "empty": None,
    "nested": {"a": {"b": "deep"}, "list": [{"n": 1}, {"n": None}, {}, {"n": 4}]},
    "odd name": 3,
    "messages": [
        {"role": "assistant", "calls": [{"name": "x"}, {"name": "y"}]},
        {"role": "user", "calls": None},
    ],
    "$row": 7,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1000 * duration", 1500.0),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("-(2 - 5)", 3),
        ("duration + empty", None),
        ("cell == 200 and cell != '201'", True),
        ("cell / 2 > 99.5", True),
        ("empty == null", True),
        ("empty > 1 or not (empty < 1)", True),
        ("nothing.at.all", None),
        ("nested.a.b", "deep"),
        ("sum(nested.list.n)", 5),
        ("sum(nested.list[n > 1].n)", 4),
        ("count(messages[role == 'assistant'].calls[])", 2),
        ("contains(messages[].calls[].name, 'y')", True),
        ("`odd name` * 2", 6),
        ("if(duration > 1, 'slow', 1 / 0)", "slow"),
        ("coalesce(empty, nothing, 'it\\'s')", "it's"),
        ("cell in ['100', 200]", True),
        ("true == 1", False),
        ("concat('f', ':', $row)", "f:7"),
        ("concat('f', empty)", None),
        ("slug('A Path/x')", "a-path-x"),
        ("release('ft:gpt-4.1:x')", "ft-gpt-4.1-x"),
        ("after_last('a/b/c', '/')", "c"),
        ("min(3, nested.list.n)", 1),
        ("round('2.6')", 3),
    ],
)
def test_it_computes(text: str, value: Any) -> None:
    assert expression_read(text)(RECORD) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / (duration - 1.5)", "divides by 0"),
        ("nested * 2", "an object is no number"),
        ("'ten' + 1", "“ten” is no number"),
        ("duration and true", "1.5 is neither true nor false"),
        ("duration[]", "is no list"),
        ("1e308 * 10", "too large"),
        ("replace(text(1), '', 'x')", "cannot be replaced"),
    ],
)
def test_it_refuses_values_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueRefused, match=words):
        expression_read(text)(RECORD)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1 +", "a b", "((1)", "if(1)", "eval('1')", "a.__class__()", "a = 1", "1e999"),
        *("'open", "and", "a[", "(" * 60 + "1" + ")" * 60, "1+" * 300 + "1", "x" * 3000),
    ],
)
def test_it_refuses_what_is_no_expression(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        expression_read(text)


def test_names_reach_the_record_and_nothing_else() -> None:
    read = expression_read("a.__class__.__init__")
    assert read({"a": "text"}) is None
    assert (read.names, read.given) == (frozenset({"a"}), frozenset())
    assert expression_read("sum(m[role == 'x'].n) + $row").names == {"m"}


_scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
_object = st.dictionaries(st.sampled_from(["a", "b", "role"]), _scalar, max_size=3)
_json = _scalar | _object | st.lists(_scalar | _object, max_size=3)
_leaf = st.sampled_from(
    ["a", "b.role", "a[role == 'x'].b", "b[].a", "null", "true", "'x'", "0", "12.5", "$row"]
)
_expression = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(inner, st.sampled_from(["==", "<", ">=", "and", "or"]), inner).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
        st.tuples(
            st.sampled_from(["sum", "count", "first", "text", "slug", "number", "max", "release"]),
            inner,
        ).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"if({p[0]}, {p[1]}, {p[2]})"),
    ),
    max_leaves=6,
)


@given(_expression, st.dictionaries(st.sampled_from(["a", "b"]), _json, max_size=2))
def test_any_expression_gives_a_value_or_a_refusal(text: str, record: dict[str, Any]) -> None:
    before = json.dumps(record)
    with suppress(ValueRefused):
        json.dumps(expression_read(text)({**record, "$row": 1}), allow_nan=False)
    assert json.dumps(record) == before


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with suppress(ExpressionInvalid):
        expression_read(text)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(1, 1000))
def test_arithmetic_is_pythons(a: int, b: int, c: int) -> None:
    values = {"a": a, "b": str(b), "c": c}
    assert expression_read("a + b * c - a / c")(values) == a + b * c - a / c


@pytest.mark.parametrize(
    ("value", "form", "zone", "expected"),
    [
        ("2026-03-01T09:00:00Z", "rfc3339", None, datetime(2026, 3, 1, 9, tzinfo=UTC)),
        (
            "2026-03-01 09:00:00.5+0200",
            "rfc3339",
            None,
            datetime(2026, 3, 1, 7, 0, 0, 500000, UTC),
        ),
        ("2026-03-01 09:00:00.9999999", "local", "UTC", datetime(2026, 3, 1, 9, 0, 0, 999999, UTC)),
        ("2026-07-01T09:00:00", "local", "Europe/Berlin", datetime(2026, 7, 1, 7, tzinfo=UTC)),
        # It came twice that night: the first.
        ("2026-10-25T02:30:00", "local", "Europe/Berlin", datetime(2026, 10, 25, 0, 30, 0, 0, UTC)),
        (1732990534, "unix", None, datetime(2024, 11, 30, 18, 15, 34, tzinfo=UTC)),
        ("1732990534.25", "unix", None, datetime(2024, 11, 30, 18, 15, 34, 250000, UTC)),
        (1732990534001, "unix_ms", None, datetime(2024, 11, 30, 18, 15, 34, 1000, UTC)),
        ("01/Mar/2026:09:00", "%d/%b/%Y:%H:%M", "UTC", datetime(2026, 3, 1, 9, tzinfo=UTC)),
        (None, "unix", None, None),
    ],
)
def test_times(value: Any, form: str, zone: str | None, expected: datetime | None) -> None:
    assert time_of(value, form, zone_of(zone) if zone else None) == expected


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        ("2026-03-01T09:00:00", "rfc3339", "has no offset"),
        ("2026-03-01T09:00:00Z", "local", "has an offset"),
        ("2026-02-30T09:00:00Z", "rfc3339", "no time that exists"),
        ("yesterday", "rfc3339", "no time such as"),
        ("2026-03-29T02:30:00", "local", "skipped by the clocks of Europe/Berlin"),
        (1e15, "unix", "is it in seconds"),
        ("soon", "unix", "is no number"),
        ("9999-12-31T23:59:59-14:00", "rfc3339", "no time that exists"),
        (12, "rfc3339", "no text"),
    ],
)
def test_times_refused(value: Any, form: str, words: str) -> None:
    with pytest.raises(ValueRefused, match=words):
        time_of(value, form, zone_of("Europe/Berlin"))
