"""Diffs of a release's changes: they lose nothing, stay small and cost a bounded time."""

import json
import random
import time

from hypothesis import given
from hypothesis import strategies as st

from rollout_console.web.change_diff import Diff, Key, Line, Piece, _steps, change_diff

WORDS = st.lists(st.sampled_from(["a", "b", "c", "", "d e"]), max_size=14)


@given(WORDS, WORDS)
def test_each_side_can_be_read_off_the_steps_and_none_is_longer_than_needed(
    before: list[str], after: list[str]
) -> None:
    steps = _steps(before, after, 100)

    assert [text for kind, text in steps if kind != "added"] == before
    assert [text for kind, text in steps if kind != "removed"] == after
    # No alignment has more lines in common than the shortest script leaves: see the dynamic
    # programme of the longest common subsequence.
    best = [[0] * (len(after) + 1) for _ in range(len(before) + 1)]
    for i, old in enumerate(before):
        for j, new in enumerate(after):
            best[i + 1][j + 1] = (
                best[i][j] + 1 if old == new else max(best[i][j + 1], best[i + 1][j])
            )
    assert sum(kind == "same" for kind, _ in steps) == best[-1][-1]


@given(st.text("ab \n", max_size=200), st.text("ab \n", max_size=200))
def test_words_marked_in_a_line_leave_the_line_whole(before: str, after: str) -> None:
    diff = change_diff(before, after)

    if diff.form != "lines":
        return
    for kind, text in (("added", before), ("removed", after)):
        lines = text.splitlines()
        for line in diff.lines:
            if line.kind == "gap":
                del lines[: line.skipped]
            elif line.kind != kind:
                assert "".join(piece.text for piece in line.pieces) == lines.pop(0)
        assert lines == []


def test_a_prompt_reads_by_line_and_word() -> None:
    head = [f"Rule {number}: be kind." for number in range(10)]
    before = "\n".join([*head, "Quote the policy, then offer a refund.", "Sign as Support."])
    after = "\n".join([*head, "Quote the policy, then offer an exchange.", "Sign as Support."])

    diff = change_diff(before, after)

    assert (diff.form, diff.removed, diff.added) == ("lines", 1, 1)
    assert diff.lines[0] == Line("gap", skipped=7)
    assert [line.kind for line in diff.lines[1:]] == [
        *(["same"] * 3),
        "removed",
        "added",
        "same",
    ]
    assert diff.lines[4].pieces == [
        Piece("Quote the policy, then offer "),
        Piece("a", marked=True),
        Piece(" "),
        Piece("refund", marked=True),
        Piece("."),
    ]
    assert diff.lines[5].pieces[1] == Piece("an", marked=True)


def test_a_line_that_was_written_anew_is_marked_as_a_whole() -> None:
    diff = change_diff("Answer in French.\nBe brief.", "Never mention competitors!\nBe brief.")

    assert diff.lines[0] == Line("removed", [Piece("Answer in French.")])
    assert diff.lines[1] == Line("added", [Piece("Never mention competitors!")])


def test_short_values_stand_beside_each_other() -> None:
    assert change_diff("v18", "v19") == Diff("values", before="v18", after="v19")
    assert change_diff("", "v19") == Diff("values", before="", after="v19")
    assert change_diff("v19", "v19").form == "none"
    assert change_diff("a\n" * 40, "a\r\n" * 40).form == "none"


def test_a_configuration_reads_by_key() -> None:
    before = {"top_k": 6, "filters": {"lang": "en", "old": True}, "stop": ["a"], "flag": 1}
    after = {"top_k": 4, "filters": {"lang": "en", "new": None}, "stop": ["a"], "flag": True}

    diff = change_diff(json.dumps(before), json.dumps(after, indent=2))

    assert diff.keys == [
        Key("top_k", "changed", "6", "4"),
        Key("filters.new", "added", "", "null"),
        Key("flag", "changed", "1", "true"),
        Key("filters.old", "removed", "true", ""),
    ]
    assert (diff.form, diff.same) == ("keys", 2)
    first = change_diff("", json.dumps({"tools": [{"name": "look_up"}, {"name": "send"}]}))
    assert [key.name for key in first.keys] == ["tools[0].name", "tools[1].name"]
    # The same said otherwise is no change.
    assert change_diff('{"a": 1, "b": 2}', '{"b":2,"a":1}').form == "none"
    assert change_diff("[" * 9000 + "\n", "{}").form == "lines"


def test_the_worst_texts_cost_little() -> None:
    seeded = random.Random(7)
    texts = [
        "\n".join(seeded.choice("ab") for _ in range(50_000)),
        "\n".join(seeded.choice("ab") for _ in range(50_000)),
        " ".join(seeded.choice(["a", "b"]) for _ in range(50_000)),
        " ".join(seeded.choice(["a", "b"]) for _ in range(50_000)),
        "\n" * 100_000,
    ]
    for before in texts:
        for after in texts:
            began = time.process_time()
            diff = change_diff(before, after)
            # A tenth of it where nothing else runs: a page may show many of them.
            assert time.process_time() - began < 4
            assert len(diff.lines) <= 1_500
