import pytest

from signals.catalogue import SIGNALS, shown_at, signal_of
from signals.format import limit_text, range_text, span_text, value_text


@pytest.mark.parametrize(
    ("slug", "value", "text"),
    [
        ("quality_pass_rate", 0.8621, "86.2 %"),
        ("quality_pass_rate", 1.0, "100.0 %"),
        ("latency_p95_ms", 640.4, "640 ms"),
        ("latency_p95_ms", 999.7, "1.0 s"),
        ("latency_p95_ms", 5634, "5.6 s"),
        ("cost_per_task_usd", 0.0712, "$0.071"),
        ("cost_per_task_usd", 0.1343, "$0.134"),
        ("cost_per_task_usd", 0.0021, "$0.0021"),
        ("cost_per_task_usd", 0, "$0.00"),
        ("cost_per_task_usd", 2.4, "$2.40"),
        ("spend_usd_per_hour", 1234, "$1,234/h"),
        ("review_arrivals_per_hour", 11.83, "11.8 /h"),
        ("critical_failures", 3, "3"),
        ("data_age_s", 150, "2.5 min"),
        ("quality_score", 0.827, "0.83"),
    ],
)
def test_values_carry_their_unit(slug: str, value: float, text: str) -> None:
    assert value_text(SIGNALS[slug], value) == text


def test_nothing_known_is_a_dash() -> None:
    assert value_text(SIGNALS["quality_pass_rate"], None) == "–"  # noqa: RUF001


def test_limits_say_their_direction() -> None:
    assert limit_text(SIGNALS["quality_pass_rate"], 0.9) == "≥ 90 %"
    assert limit_text(SIGNALS["latency_p95_ms"], 6000) == "≤ 6 s"
    assert limit_text(SIGNALS["cost_per_task_usd"], 0.085) == "≤ $0.085"
    assert limit_text(SIGNALS["cost_per_task_usd"], None) == ""


def test_ranges_name_the_unit_once_and_open_ends_in_words() -> None:
    quality = SIGNALS["quality_pass_rate"]
    assert range_text(quality, 0.66, 0.759) == "66.0–75.9 %"  # noqa: RUF001
    assert range_text(SIGNALS["cost_per_task_usd"], 0.1, 0.13) == "$0.100–$0.130"  # noqa: RUF001
    assert range_text(SIGNALS["latency_p95_ms"], 900, 5600) == "900 ms–5.6 s"  # noqa: RUF001
    assert range_text(quality, 0.66, None) == "from 66.0 %"
    assert range_text(quality, None, None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2, "2 s"), (60, "1 min"), (90, "90 s"), (120, "2 min"), (5400, "90 min"), (86400, "1 day")],
)
def test_spans_in_the_largest_fitting_unit(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def test_quality_latency_cost_come_first_and_own_signals_last() -> None:
    slugs = ["own_thing", "error_rate", "cost_per_task_usd", "latency_p95_ms", "quality_pass_rate"]
    assert sorted(slugs, key=shown_at) == list(reversed(slugs))
    assert not signal_of("own_thing").collected
