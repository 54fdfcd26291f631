"""Recorded gauges, a day at a time against the week before, beside windows that people labelled."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from signals.engine.recorded import judged
from tests.benchmark.compared import Comparison, Section, Task, in_order, together
from tests.benchmark.traces import items

PAST: Final = timedelta(days=7)
DAY: Final = timedelta(days=1)
# Hours without which a past says too little.
LEAST_PAST: Final = 48
QUANTILE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Day:
    """A judged day: when it fired, and how many of its hours lay above the past's quantile."""

    at: datetime
    fired_at: datetime | None
    above: int
    hours: int

    def within(self, low: datetime, high: datetime) -> bool:
        return self.at <= high and low < self.at + DAY


def nab(folder: Path) -> Section:
    gauges, _ = items("nab-series", folder, "*.csv")
    windows = json.loads((folder / "windows.json").read_text())
    series: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for each in gauges:
        series[each["name"]].append((each["occurred_at"], float(each["value"])))
    rows = [
        "| series | labelled windows with a fire | most hours above in a window that was missed"
        " | other days with a fire |",
        "|---|---|---|---|",
    ]
    totals = [0, 0, 0, 0]
    for name, values in sorted(series.items()):
        marked = [_window(each) for each in windows[f"{name}.csv"]]
        days = daily(values)
        found, missed, held = 0, "none missed", Day(datetime.min.replace(tzinfo=UTC), None, -1, 0)
        inside = 0
        for low, high in marked:
            here = [day for day in days if day.within(low, high)]
            inside += bool(here)
            if any(day.fired_at is not None and low <= day.fired_at <= high for day in here):
                found += 1
                continue
            held = max([held, *here], key=lambda day: day.above)
        if held.hours:
            missed = f"{held.above} of {held.hours}"
        quiet = [day for day in days if not any(day.within(*window) for window in marked)]
        alarms = sum(day.fired_at is not None for day in quiet)
        rows.append(f"| {name} | {found} of {inside} | {missed} | {alarms} of {len(quiet)} |")
        totals = [a + b for a, b in zip(totals, (found, inside, alarms, len(quiet)), strict=True)]
    rows.append(f"| **all** | {totals[0]} of {totals[1]} | | {totals[2]} of {totals[3]} |")
    return Section(
        "NAB: gauges against their own past",
        "Nine recorded gauges. Each day's values, one an hour (its median), are held against the"
        f" {100 * QUANTILE:.0f}th percentile of the seven days before, with a budget of its own:"
        " does it fire inside the windows that people labelled, and how often on other days?",
        (),
        (
            "Peaks of minutes: a percentile moves only when many hours do. In the"
            " windows missed no day had more than a few hours above the usual; such a peak is for"
            " a hard cap on single values, not for evidence about a release.",
            "Falls: a guard asks whether a value is too high, so a drop is not looked for.",
            "An error rate in the strict sense: values are means of nobody knows how many, and"
            " neighbours are alike, while the evidence takes hours as unrelated. The days that"
            " fired without a label are counted, not promised.",
            "Whether a label is right: labels are debated, and nothing here was tuned to them.",
        ),
        rows,
    )


def _window(ends: Sequence[str]) -> tuple[datetime, datetime]:
    low, high = (datetime.fromisoformat(end).replace(tzinfo=UTC) for end in ends)
    return low, high


def daily(values: Sequence[tuple[datetime, float]]) -> list[Day]:
    """Judge each day that has a past to be held against; an hour counts when it is over."""
    hours: dict[datetime, list[float]] = defaultdict(list)
    for at, value in values:
        hours[at.replace(minute=0, second=0, microsecond=0)].append(value)
    hourly = {at: sorted(held)[len(held) // 2] for at, held in sorted(hours.items())}
    day = min(hourly).replace(hour=0)
    scenarios, held_days = [], []
    while day <= max(hourly):
        past = [value for at, value in hourly.items() if day - PAST <= at < day]
        now = {at: value for at, value in hourly.items() if day <= at < day + DAY}
        if len(past) >= LEAST_PAST and now:
            usual = sorted(past)[int(QUANTILE * len(past))]
            above = sum(value > usual for value in now.values())
            tasks = [Task((at - day) // timedelta(minutes=1) + 59, v) for at, v in now.items()]
            one = Comparison(
                signal="value",
                candidate="the day",
                other="the week before",
                kind="quantile",
                reference="history",
                tasks=tasks,
                others=in_order(past),
                quantile=QUANTILE,
            )
            scenarios.append(together("day", [one]))
            held_days.append((day, above, len(now)))
        day += DAY
    return [
        Day(at, at + timedelta(minutes=v.fired_minute or 0) if v.fired else None, above, count)
        for (at, above, count), v in zip(held_days, judged(scenarios), strict=True)
    ]
