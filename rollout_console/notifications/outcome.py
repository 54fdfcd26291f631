"""What came of one attempt. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`error` is "" where it arrived, else a sentence. `gone`: the receiver wants no more of it."""

    error: str = ""
    http_status: int | None = None
    retry_after_s: float | None = None
    gone: bool = False
