"""Asking a server: never inside a transaction, with time and size bounded."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import stamina
from django.conf import settings

from signals.pulls.prometheus import AnsweredSeries, AnswerUnusable, answer_read, refusal_of

TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
# Of one attempt as a whole: a server that drips its answer would never run into TIMEOUT.
ATTEMPT_S: Final = 20.0
ATTEMPTS: Final = 2
BODY_MAX: Final = 32 * 1024 * 1024
# The server may be well again in a moment.
_PASSING: Final = frozenset({502, 503, 504})


class PullFailed(Exception):
    """The server could not be asked, or does not answer what is needed; a sentence."""


class _Passing(PullFailed):
    """Worth another try."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range query: `start` and `end` are both asked for, as Prometheus has it."""

    start: datetime
    end: datetime
    step_s: int


def address_fault(url: str) -> str | None:
    """Return why no pull may go to this address; None where it may."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "The address cannot be read."
    if parts.scheme not in ("http", "https") or not host:
        return "The address begins with http:// or https:// and names a host."
    if parts.username is not None or parts.password is not None:
        return "The address carries no user or password: name a credential instead."
    if parts.query or parts.fragment:
        return "The address is the server's, without ? or #: /api/v1/query_range is added."
    if settings.PULL_HOSTS and not _is_allowed(parts.netloc.lower(), host.lower()):
        return f"The setting PULL_HOSTS does not allow pulls from {host}."
    return None


def credential_fault(url: str, *, credential: str) -> str | None:
    """Return why this credential may not be sent there; None where it may, or there is none."""
    if not credential:
        return None
    known = settings.PULL_CREDENTIALS.get(credential)
    if known is None:
        return f"The setting PULL_CREDENTIALS has no credential “{credential}”."
    if not _is_below(url, str(known.get("url", ""))):
        # Else whoever may set up a pull could have a secret sent to a server of their own.
        return f"The credential “{credential}” is for another address."
    return None


def query_range(
    *, base_url: str, query: str, window: Window, credential: str = ""
) -> list[AnsweredSeries]:
    """Return the series that a server answers.

    Raises:
        PullFailed
    """
    fault = address_fault(base_url) or credential_fault(base_url, credential=credential)
    if fault is not None:
        raise PullFailed(fault)
    form = {
        "query": query,
        "start": f"{window.start.timestamp():.3f}",
        "end": f"{window.end.timestamp():.3f}",
        "step": str(window.step_s),
    }
    for attempt in stamina.retry_context(
        on=_Passing, attempts=ATTEMPTS, wait_initial=0.2, wait_max=1.0, timeout=25.0
    ):
        with attempt, _told():
            return answer_read(_post(base_url, form, credential=credential))
    raise AssertionError("retry_context returns or raises")


@contextmanager
def _told() -> Iterator[None]:
    """Give every way to fail one sentence, without a secret and without the whole address."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise _Passing("The server does not answer in time.") from error
    except httpx.TransportError as error:
        raise _Passing(f"The server cannot be reached: {str(error)[:200]}.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PullFailed(f"The server cannot be asked: {str(error)[:200]}.") from error
    except AnswerUnusable as error:
        raise PullFailed(str(error)) from error


def _post(base_url: str, form: Mapping[str, str], *, credential: str) -> bytes:
    headers: dict[str, str] = {}
    auth: httpx.BasicAuth | None = None
    known: dict[str, Any] = settings.PULL_CREDENTIALS.get(credential, {}) if credential else {}
    if "bearer" in known:
        headers["Authorization"] = f"Bearer {known['bearer']}"
    elif "username" in known:
        auth = httpx.BasicAuth(known["username"], known.get("password", ""))
    url = f"{base_url.rstrip('/')}/api/v1/query_range"
    # No redirects: they could lead where no pull may go. No proxies or netrc of this machine.
    until_s = time.monotonic() + ATTEMPT_S
    client = httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)
    with client, client.stream("POST", url, data=form, headers=headers, auth=auth) as answer:
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if time.monotonic() > until_s:
                raise _Passing("The server does not answer in time.")
            if len(body) > BODY_MAX:
                raise PullFailed(f"The answer is larger than {BODY_MAX:,} bytes: aggregate it.")
        if answer.status_code == httpx.codes.OK:
            return bytes(body)
        words = refusal_of(bytes(body))
        told = f"The server answers {answer.status_code}" + (f": {words}" if words else ".")
        raise (_Passing if answer.status_code in _PASSING else PullFailed)(told)


def _is_allowed(netloc: str, host: str) -> bool:
    for allowed in (each.lower() for each in settings.PULL_HOSTS):
        if allowed in (netloc, host):
            return True
        if allowed.startswith("*.") and host.endswith(allowed[1:]):
            return True
    return False


def _is_below(url: str, limit: str) -> bool:
    return bool(limit) and (url.rstrip("/") + "/").startswith(limit.rstrip("/") + "/")
