"""What templates of the console share: icons, times, and the words of `words.py`."""

from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rollout_console.web import words
from signals.format import MISSING

register = template.Library()


@register.simple_tag
def icon(name: str, classes: str = "") -> SafeString:
    """Draw an icon of `shared/sprite.html`; decoration only, so name what it stands for beside."""
    return format_html(
        '<svg class="i{}" viewBox="0 0 16 16" aria-hidden="true"><use href="#i-{}"/></svg>',
        f" {classes}" if classes else "",
        name,
    )


def _time(at: datetime, shown: str, hook: str = "") -> SafeString:
    # Kept apart from the words, so that a script may count on without parsing them.
    return format_html(
        '<time datetime="{}"{}>{}</time>',
        at.isoformat(),
        f" {hook}" if hook else "",
        at.astimezone(UTC).strftime(shown),
    )


@register.simple_tag
def clock(at: datetime | None) -> SafeString:
    """Show a moment of the day in UTC."""
    if at is None:
        return SafeString(MISSING)
    return _time(at, "%H:%M:%S")


@register.simple_tag
def moment(at: datetime | None) -> SafeString:
    """Show day and time in UTC."""
    if at is None:
        return SafeString(MISSING)
    return _time(at, "%d %b %Y, %H:%M:%S")


@register.simple_tag
def age(at: datetime | None) -> SafeString:
    """Show how old something is; the script keeps counting, without it the time itself stands."""
    if at is None:
        return SafeString("no data yet")
    return _time(at, "at %H:%M:%S", "data-age")


@register.simple_tag
def left(at: datetime) -> SafeString:
    """Show how long it is until `at`, counting down."""
    return _time(at, "at %H:%M:%S", "data-left")


@register.filter
def share(value: float | None) -> str:
    return words.share_text(value)


@register.filter
def rate(value: float) -> str:
    return words.rate_text(value)


@register.filter
def number(value: int) -> str:
    return f"{value:,}"


@register.filter
def duration(seconds: float) -> str:
    return words.duration_text(seconds)


@register.filter
def names(value: list[str]) -> str:
    return words.names_text(value)


@register.filter
def dashed(pointer: str) -> str:
    """Return a JSON pointer as the end of an element's id."""
    return pointer.replace("/", "-")
