"""The fallback map's geometry: lines as wide as shares, boxes that do not touch."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rollout_console.web.flow import Branch, bar_pairs, flow_map

shares = st.lists(st.floats(0, 1), max_size=7)


@given(shares, st.floats(0, 1))
def test_a_map_holds_every_way_once(found: list[float], escalated: float) -> None:
    drawn = flow_map(
        path=("Draft a reply", "n 10"),
        answers=Branch("90 %", "9 tasks", 0.9, escalated),
        fallbacks=[Branch(f"mode {i}", "", share, share / 2) for i, share in enumerate(found)],
        escalation=("owner", "3 tasks"),
    )
    escalates = escalated > 0 or any(share / 2 for share in found)
    assert len(drawn.boxes) == 2 + len(found) + escalates
    widths = [link.width for link in drawn.links if link.kind == "d"]
    assert widths == [round(max(1.0, 16 * share), 1) for share in found]
    assert all(box.y + box.height <= drawn.height for box in drawn.boxes)
    column = sorted(box.y for box in drawn.boxes if box.x == 490)
    assert all(b - a >= 44 for a, b in pairwise(column))


def test_bars_share_one_scale_from_zero() -> None:
    first, second = bar_pairs([("a", 1.0, "$1", 4.0, "$4"), ("b", None, "not known", 2.0, "$2")])
    assert (first.previous, first.current) == (25.0, 100.0)
    assert (second.previous, second.current) == (None, 50.0)
    assert bar_pairs([("a", 0.0, "$0", None, "")])[0].previous == 0.0
