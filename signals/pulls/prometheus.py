"""What a Prometheus-compatible server answers, as samples. Pure.

Source: Prometheus HTTP API, "Range queries", "Native histograms" and "Instant vectors".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite, log2
from typing import Any, Final

import msgspec

from signals.points.histograms import Exponential
from signals.points.kinds import Distribution, Gauge

SERIES_MAX: Final = 200
# More steps than this are refused by the server itself.
STEPS_MAX: Final = 11_000
_SHOWN: Final = 300


class AnswerUnusable(Exception):
    """What came back does not do; the sentence says what to change."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series."""

    at: datetime
    value: Gauge | Distribution


@dataclass(frozen=True, slots=True)
class AnsweredSeries:
    """One series of an answer; `empty` counts its steps that were NaN or infinite: no data."""

    labels: Mapping[str, str]
    samples: list[Sample] = field(default_factory=list)
    empty: int = 0


def answer_read(body: bytes) -> list[AnsweredSeries]:
    """Return the series that `query_range` answered; none where there is no data.

    Raises:
        AnswerUnusable: it is an error, or no such answer.
    """
    document = _document(body)
    data = document.get("data")
    if document.get("status") != "success" or not isinstance(data, dict):
        raise AnswerUnusable(refusal_of(body) or "The answer has no data.")
    if data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
        raise AnswerUnusable("The answer is no matrix, which a range query gives.")
    if len(data["result"]) > SERIES_MAX:
        raise AnswerUnusable(
            f"The query answers {len(data['result']):,} series, at most {SERIES_MAX} are taken: "
            "aggregate it, as with sum by (…) (…)."
        )
    try:
        return [_series(each) for each in data["result"]]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise AnswerUnusable(f"The answer cannot be read: {str(error)[:_SHOWN]}.") from error


def refusal_of(body: bytes) -> str | None:
    """Return the server's own words for why it refuses; None where it says none."""
    try:
        document = _document(body)
    except AnswerUnusable:
        return None
    words, kind = document.get("error"), document.get("errorType")
    if not isinstance(words, str) or not words:
        return None
    return f"{kind}: {words[:_SHOWN]}" if isinstance(kind, str) else words[:_SHOWN]


def labels_missing(answered: list[AnsweredSeries], labels: Mapping[str, str]) -> str | None:
    """Return why these series cannot be told apart by the labels that are mapped, else None."""
    seen: set[tuple[str, ...]] = set()
    for series in answered:
        place = tuple(series.labels.get(label, "") for label in labels.values())
        if place in seen:
            told = ", ".join(f"{k}={v!r}" for k, v in sorted(series.labels.items()))[:_SHOWN]
            what = " and ".join(labels) or "series"
            return (
                f"The query answers several series for one {what}, such as {{{told}}}: aggregate "
                "it, as with sum by (…) (…), or map a label to segment or release."
            )
        seen.add(place)
    return None


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AnswerUnusable("The answer is not JSON of Prometheus: is the address right?")
    return document


def _series(told: Mapping[str, Any]) -> AnsweredSeries:
    samples = []
    empty = 0
    for at, text in told.get("values") or []:
        value = float(text)
        if isfinite(value):
            samples.append(Sample(_moment(at), Gauge.of(value)))
        else:
            empty += 1
    for at, histogram in told.get("histograms") or []:
        samples.append(Sample(_moment(at), distribution_of(histogram)))
    labels = {str(name): str(value) for name, value in told.get("metric", {}).items()}
    return AnsweredSeries(labels, samples, empty)


def _moment(at: Any) -> datetime:
    return datetime.fromtimestamp(round(float(at), 3), tz=UTC)


def distribution_of(told: Mapping[str, Any]) -> Distribution:
    """Return a native histogram: its buckets have base-2 exponential bounds, its counts strings.

    Counts of a rate or an increase are extrapolated and so no whole numbers: each bucket is
    rounded down, and what is left of the whole goes to the buckets that lost most.

    Raises:
        ValueError: the bounds are no powers of one base.
    """
    counts: dict[tuple[str, int], float] = {}
    scale: int | None = None
    threshold = 0.0
    for _, left_text, right_text, count_text in told.get("buckets") or []:
        left, right, count = float(left_text), float(right_text), float(count_text)
        if left <= 0 <= right:
            threshold = max(threshold, right, -left)
            counts["zero", 0] = counts.get(("zero", 0), 0.0) + count
            continue
        side = "positive" if left > 0 else "negative"
        low, high = (left, right) if left > 0 else (-right, -left)
        found = round(-log2(log2(high / low)))
        if scale is not None and found != scale:
            raise ValueError("a histogram's buckets have different widths")
        scale = found
        counts[side, round(log2(high) * 2.0**scale) - 1] = count
    whole = _whole(counts)
    parts: dict[str, dict[int, int]] = {"zero": {}, "positive": {}, "negative": {}}
    for (side, index), count in whole.items():
        if count:
            parts[side][index] = count
    histogram = Exponential(
        scale or 0, parts["zero"].get(0, 0), threshold, parts["positive"], parts["negative"]
    )
    total = float(told["sum"])
    return Distribution(histogram.n, total if isfinite(total) else None, None, None, histogram)


def _whole(counts: Mapping[tuple[str, int], float]) -> dict[tuple[str, int], int]:
    if any(not isfinite(count) or count < 0 for count in counts.values()):
        raise ValueError("a bucket counts less than nothing")
    whole = {key: int(count) for key, count in counts.items()}
    left = round(sum(counts.values())) - sum(whole.values())
    for key in sorted(counts, key=lambda key: (whole[key] - counts[key], key))[:left]:
        whole[key] += 1
    return whole
