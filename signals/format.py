"""Numbers as people read them: unit, three figures, no jargon. Pure: no Django."""

from signals.catalogue import Signal

MISSING = "\N{EN DASH}"


def value_text(signal: Signal, value: float | None) -> str:
    """Return a value of `signal` with its unit: `86.2 %`, `5.6 s`, `$0.071`; a dash for None."""
    return MISSING if value is None else unit_text(signal.unit, value)


def gap_text(signal: Signal, gap: float) -> str:
    """Return a difference with its sign and unit; one of shares is in percentage points."""
    sign = "+" if gap > 0 else "\N{MINUS SIGN}" if gap < 0 else "±"
    if signal.unit == "share":
        return f"{sign}{abs(gap) * 100:.1f} pp"
    return f"{sign}{value_text(signal, abs(gap))}"


def limit_text(signal: Signal, limit: float | None) -> str:
    """Return what the limit asks for: `≥ 90 %`, `≤ 6 s`; empty without a limit."""
    if limit is None:
        return ""
    sign = "≥" if signal.better == "higher" else "≤"
    return f"{sign} {bare_text(signal, limit)}"


def bare_text(signal: Signal, value: float) -> str:
    """Return a round figure as its author wrote it: `90 %`, not `90.0 %`."""
    if signal.unit == "share":
        return f"{value * 100:.10g} %"
    if signal.unit == "ms":
        return f"{value:.10g} ms" if value < 1000 else f"{value / 1000:.10g} s"
    if signal.unit in {"usd", "usd/h"}:
        tail = "/h" if signal.unit == "usd/h" else ""
        return f"${_money(value)}{tail}"
    if signal.own:
        return f"{value:.10g} {signal.unit}".rstrip()
    return unit_text(signal.unit, value)


def unit_text(unit: str, value: float) -> str:
    """Return `value` with `unit`; shares become percent, long times seconds."""
    match unit:
        case "share":
            return f"{value * 100:.1f} %"
        case "ms":
            return f"{value:.0f} ms" if value < 999.5 else f"{_short(value / 1000)} s"
        case "s":
            return span_text(value)
        case "usd":
            return f"${_money(value)}"
        case "usd/h":
            return f"${_money(value)}/h"
        case "/h":
            return f"{value:.1f} /h"
        case "score" | "per task":
            return f"{value:.2f}"
        case "tokens" | "count":
            return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"
        case _:
            # A unit that a team wrote itself.
            return f"{_figures(value)} {unit}".rstrip()


def measured_text(value: float, unit: str) -> str:
    """Return a measured value with the unit that whoever sent it told: `0.082 usd`, `1,204`."""
    size = abs(value)
    if value == int(value) and size < 1e15:
        text = f"{value:,.0f}"
    elif size >= 100 and size < 1e15:
        text = f"{value:,.1f}"
    else:
        text = f"{value:.4g}"
    # OpenTelemetry writes 1 for a plain number, and what is counted in braces.
    unit = "" if unit == "1" else unit.strip("{}")
    return f"{text} {unit}" if unit else text


def range_text(signal: Signal, low: float | None, high: float | None) -> str:
    """Return the 95 % range, one unit for both ends where they share it; empty without one."""
    return unit_range_text(signal.unit, low, high)


def unit_range_text(unit: str, low: float | None, high: float | None) -> str:
    """Return a range, its unit once where both ends share it; empty without one."""
    if low is None and high is None:
        return ""
    if low is None or high is None:
        known = low if low is not None else high
        assert known is not None
        side = "from" if low is not None else "up to"
        return f"{side} {unit_text(unit, known)}"
    left, right = unit_text(unit, low), unit_text(unit, high)
    for tail in (f" {unit}", "/h", " " + right.rpartition(" ")[2] if " " in right else ""):
        if tail and left.endswith(tail) and right.endswith(tail):
            left = left.removesuffix(tail).rstrip()
    return f"{left}\N{EN DASH}{right}"


def span_text(seconds: float) -> str:
    """Return a length of time in the largest fitting unit: `45 s`, `15 min`, `2 h`, `3 days`."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and seconds % size == 0):
            shown = seconds / size
            if word == "days" and shown == 1:
                return "1 day"
            return f"{shown:.0f} {word}" if shown == int(shown) else f"{shown:.1f} {word}"
    return f"{seconds:.0f} s"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _figures(value: float) -> str:
    """Return three figures, and whole numbers from a hundred on."""
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-4:
        return f"{value:.3g}"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def _money(value: float) -> str:
    """Return dollars with at least cents, and three figures below a dollar."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 1 or value == 0:
        return f"{value:.2f}"
    if value >= 0.1:
        return f"{value:.3f}"
    text = f"{value:.3f}" if value >= 0.01 else f"{value:.5f}".rstrip("0")
    return text if text not in {"0.", "-0."} else "0.00"
