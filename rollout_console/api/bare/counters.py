"""What this process counted: requests by route and status, and the time they took."""

import threading
from collections import Counter

_lock = threading.Lock()
_requests: Counter[tuple[str, int]] = Counter()
_seconds: dict[str, float] = {}


def request_count(route: str, status: int, seconds: float) -> None:
    """Count one answered request of a bare route; `seconds` is its handler's time."""
    with _lock:
        _requests[route, status] += 1
        _seconds[route] = _seconds.get(route, 0.0) + seconds


def requests_seen() -> tuple[dict[tuple[str, int], int], dict[str, float]]:
    """Return (requests by route and status, seconds by route) since this process began."""
    with _lock:
        return dict(_requests), dict(_seconds)
