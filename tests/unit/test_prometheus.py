"""Native histograms as Prometheus answers them."""

import pytest

from signals.points.histograms import Exponential
from signals.pulls.prometheus import AnswerUnusable, answer_read, distribution_of


def test_native_histogram_becomes_base_2_buckets() -> None:
    # Schema 1: bounds are powers of the square root of 2, as Prometheus writes them.
    told = {
        "count": "13",
        "sum": "21.5",
        "buckets": [
            [1, "-2", "-1.414213562373095", "1"],
            [3, "-0.001", "0.001", "2"],
            [0, "1", "1.414213562373095", "4"],
            [0, "2.82842712474619", "4", "6"],
        ],
    }

    found = distribution_of(told)

    assert (found.n, found.total) == (13, 21.5)
    # (1, √2] is bucket 0, (2√2, 4] is bucket 3; (√2, 2] mirrored is bucket 1.
    assert found.histogram == Exponential(1, 2, 0.001, {0: 4, 3: 6}, {1: 1})


def test_extrapolated_counts_are_rounded_to_their_whole() -> None:
    told = {
        "count": "3.9999999",
        "sum": "9",
        "buckets": [[0, "1", "2", "1.3333333"], [0, "2", "4", "2.6666666"]],
    }

    assert distribution_of(told).histogram == Exponential(0, 0, 0.0, {0: 1, 1: 3}, {})


def test_coarse_schemas() -> None:
    told = {"count": "2", "sum": "40", "buckets": [[0, "16", "256", "2"]]}

    # Schema -2: each bucket spans 2^4.
    assert distribution_of(told).histogram == Exponential(-2, 0, 0.0, {1: 2}, {})


@pytest.mark.parametrize("body", [b"", b"[]", b'{"status":"success"}', b"\xff", b"[" * 5_000])
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerUnusable):
        answer_read(body)
