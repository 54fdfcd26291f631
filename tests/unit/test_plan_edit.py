"""A plan's file is edited where it differs; its comments stay where they can."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_console.rollouts.plan_edit import comments, text_edited
from rollout_console.rollouts.plan_yaml import yaml_dump, yaml_load

TEXT = """\
# Support reply, reviewed each quarter
version: 1   # the format
workflow:
  slug: support-reply
  # who answers at night
  owner: olivia
  hold_s: 120      # two minutes: it sends mail
  paths:
    - slug: draft            # the only one
      limits: {latency_p95_ms: 6000, cost_per_task_usd: 0.085}  # from the contract
      points: ["a # in a text", 'b']
  # segments, the internal one first
  segments:
    # staff
    - {slug: internal-ops, tasks_per_day: 400}
    # the rest
    - {slug: eu, tasks_per_day: 9000}
  note: |
    keep # this
    text
rollout:
  # the ladder
  stages: []
  stable: "2026.10"
# the end
"""


def edited(change: Any) -> tuple[str, list[str]]:
    document = copy.deepcopy(yaml_load(TEXT).value)
    change(document)
    made = text_edited(TEXT, document)
    assert yaml_load(made.text).value == document
    return made.text, made.lost


def test_the_same_content_is_the_same_text() -> None:
    assert edited(lambda document: None) == (TEXT, [])


@pytest.mark.parametrize(
    ("change", "line", "instead"),
    [
        (
            lambda document: document["workflow"].update(hold_s=60),
            "  hold_s: 120      # two minutes: it sends mail\n",
            "  hold_s: 60      # two minutes: it sends mail\n",
        ),
        (
            lambda document: document["workflow"]["paths"][0]["limits"].update(
                latency_p95_ms=5000.5
            ),
            "latency_p95_ms: 6000,",
            "latency_p95_ms: 5000.5,",
        ),
        (
            lambda document: document["workflow"]["segments"][1].update(slug="eu, all"),
            "{slug: eu, tasks",
            "{slug: 'eu, all', tasks",
        ),
        (
            lambda document: document["rollout"].update(stable="2026.11"),
            '"2026.10"',
            "'2026.11'",
        ),
        (
            lambda document: document["rollout"].update(stable=None),
            '"2026.10"',
            "null",
        ),
        (
            lambda document: document["workflow"]["paths"][0]["points"].append("c"),
            """["a # in a text", 'b']""",
            "['a # in a text', b, c]",
        ),
        (
            lambda document: document["workflow"].pop("slug"),
            "  slug: support-reply\n",
            "",
        ),
    ],
)
def test_a_changed_value_changes_its_place_only(change: Any, line: str, instead: str) -> None:
    assert edited(change) == (TEXT.replace(line, instead), [])


def test_a_new_key_is_added_behind_the_last_one() -> None:
    text, lost = edited(lambda document: document["workflow"].update(discovery=True))

    assert lost == []
    assert "    text\n  discovery: true\nrollout:\n" in text
    assert comments(text) == comments(TEXT)


def test_a_row_is_added_behind_the_last_one_in_its_own_style() -> None:
    text, lost = edited(
        lambda document: document["workflow"]["segments"].append({"slug": "all", "people": 5})
    )

    last = "    - {slug: eu, tasks_per_day: 9000}\n"
    assert (text, lost) == (
        TEXT.replace(last, f"{last}    - {{slug: all, people: 5}}\n"),
        [],
    )


def test_a_row_is_added_behind_the_comment_of_the_last_one() -> None:
    text, lost = edited(lambda document: document["workflow"]["paths"].append({"slug": "send"}))

    points = """      points: ["a # in a text", 'b']\n"""
    assert (text, lost) == (TEXT.replace(points, f"{points}    - slug: send\n"), [])


def test_a_row_that_goes_takes_its_lines_only() -> None:
    text, lost = edited(lambda document: document["workflow"]["segments"].pop(0))

    gone = "    - {slug: internal-ops, tasks_per_day: 400}\n"
    assert (text, lost) == (TEXT.replace(gone, ""), [])


def test_another_list_is_written_anew_and_says_which_comments_went() -> None:
    text, lost = edited(lambda document: document["workflow"].update(segments=[{"slug": "x"}]))

    assert lost == ["# staff", "# the rest"]
    assert "  # segments, the internal one first\n  segments:\n" in text
    assert "hold_s: 120      # two minutes: it sends mail" in text
    assert text.endswith("# the end\n")


def test_a_text_that_cannot_be_read_is_written_anew() -> None:
    assert text_edited("a: [", {"a": 1}).text == "a: 1\n"


def test_an_anchor_that_two_places_share_does_not_change_both() -> None:
    text = "a: &x {n: 1}\nb: *x  # alike\nc: 2  # kept\n"
    document = {"a": {"n": 1}, "b": {"n": 5}, "c": 2}

    made = text_edited(text, document)

    assert yaml_load(made.text).value == document


_word = st.text(alphabet="abc #:'\"{}[],-\n|>&*!%@`é", max_size=6)
_scalar = st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | _word
_value = st.recursive(
    _scalar,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["slug", "limits", "when", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_document = st.dictionaries(st.sampled_from(["workflow", "rollout", "releases"]), _value)


@settings(max_examples=300, deadline=None)
@given(before=_document, after=_document)
def test_whatever_changes_the_text_reads_as_the_new_document(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    text = "# head\n" + yaml_dump(before) + "# tail\n"

    made = text_edited(text, after)

    assert yaml_load(made.text).value == after
