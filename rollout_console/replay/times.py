"""Times as traces write them, to the microsecond and with their offset. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rollout_console.replay.functions import ValueRefused, number_of, shown

FORMATS: Final = ("rfc3339", "unix", "unix_ms", "local")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FARTHEST_S: Final = 250_000_000_000
# Up to nine digits of a second; what is finer than a microsecond is cut off.
_STAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?([Zz]|[-+]\d\d:?\d\d))?",
    re.ASCII,
)


def zone_of(name: str) -> ZoneInfo:
    """Return a zone of the IANA database.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"There is no time zone “{name[:80]}”; write one such as UTC or Europe/Berlin."
        ) from error


def time_of(value: Any, form: str, zone: ZoneInfo | None = None) -> datetime | None:
    """Return the moment that `value` names, None for nothing.

    Args:
        form: one of FORMATS, or a pattern of strptime (it holds a %).
        zone: where `local` times and patterns without an offset were written.

    Raises:
        ValueRefused: it is no such time.
    """
    if value is None:
        return None
    if form in ("unix", "unix_ms"):
        return _from_epoch(value, 1 if form == "unix" else 1000)
    if not isinstance(value, str):
        raise ValueRefused(f"{shown(value)} is no text to read a time from")
    text = value.strip()
    if "%" in form:
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007  # the zone comes next
        except ValueError:
            raise ValueRefused(f"{shown(value)} is no time of the form {form}") from None
        return _placed(moment, zone, value) if moment.tzinfo is None else _in_utc(moment, value)
    found = _STAMP.fullmatch(text)
    if found is None:
        raise ValueRefused(f"{shown(value)} is no time such as 2026-11-24T09:30:00{_tail(form)}")
    date, clock, fraction, offset = found.groups()
    if form == "rfc3339" and offset is None:
        raise ValueRefused(
            f"{shown(value)} has no offset; say `format: local` and the zone it was written in"
        )
    if form == "local" and offset is not None:
        raise ValueRefused(f"{shown(value)} has an offset; say `format: rfc3339`")
    micros = (fraction or "")[:6].ljust(6, "0")
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}.{micros}{(offset or '').upper()}")
    except ValueError:
        raise ValueRefused(f"{shown(value)} is no time that exists") from None
    return _placed(moment, zone, value) if offset is None else _in_utc(moment, value)


def _tail(form: str) -> str:
    return "Z" if form == "rfc3339" else ""


def _from_epoch(value: Any, per_second: int) -> datetime:
    number = number_of(value)
    if abs(number) > _FARTHEST_S * per_second:
        raise ValueRefused(f"{shown(value)} is no time; is it in seconds?")
    whole, rest = divmod(number, per_second)
    try:
        return _EPOCH + timedelta(seconds=whole, microseconds=round(rest * 1e6 / per_second))
    except OverflowError:
        raise ValueRefused(f"{shown(value)} is no time; is it in seconds?") from None


def _placed(moment: datetime, zone: ZoneInfo | None, value: Any) -> datetime:
    """Return a naive time in its zone; of one that came twice the first."""
    placed = _in_utc(moment.replace(tzinfo=zone or UTC), value)
    if zone is not None and placed.astimezone(zone).replace(tzinfo=None) != moment:
        raise ValueRefused(f"{shown(value)} was skipped by the clocks of {zone.key}")
    return placed


def _in_utc(moment: datetime, value: Any) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueRefused(f"{shown(value)} is no time that exists") from None
