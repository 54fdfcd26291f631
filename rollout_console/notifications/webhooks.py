"""One attempt to deliver a signed webhook (Standard Webhooks 1.0.0). No database here."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
from standardwebhooks.webhooks import Webhook

from rollout_console.notifications.addresses import AddressRefused, address_fault, host_look_up
from rollout_console.notifications.outcome import Outcome

TIMEOUT: Final = httpx.Timeout(5.0, connect=3.0)
# Of an attempt as a whole: a receiver that drips its answer would never run into TIMEOUT.
ATTEMPT_S: Final = 10.0
# Of the answer nothing is read but its head and a little, so that the connection ends well.
BODY_MAX: Final = 16_384


def webhook_send(
    *, address: str, secrets: Sequence[str], message_id: str, body: bytes, now: datetime
) -> Outcome:
    """Post `body` to `address`, signed with each secret; only an answer of 2xx is arrival.

    Args:
        secrets: the signing secrets, the current one first.
        message_id: the same for every attempt of an event, so that receivers drop doubles.
        now: the attempt's time, which is signed with it.
    """
    if fault := address_fault(address):
        return Outcome(fault)
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    text = body.decode()
    signatures = [Webhook(secret).sign(message_id, now, text) for secret in secrets]
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "Rollout-Console",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    until_s = time.monotonic() + ATTEMPT_S
    try:
        found = host_look_up(host, port)
        url = httpx.URL(address).copy_with(host=found)
        # No redirects: they could lead where nothing may go. No proxies of this machine.
        client = httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)
        with (
            client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions={"sni_hostname": host}
            ) as answer,
        ):
            read = 0
            for chunk in answer.iter_raw():
                read += len(chunk)
                if read > BODY_MAX or time.monotonic() > until_s:
                    break
            return _outcome(answer)
    except AddressRefused as refused:
        return Outcome(str(refused))
    except httpx.TimeoutException:
        return Outcome("The receiver does not answer in time.")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return Outcome(f"The receiver cannot be reached: {str(error)[:200] or 'no reason given'}.")


def _outcome(answer: httpx.Response) -> Outcome:
    status = answer.status_code
    if answer.is_success:
        return Outcome(http_status=status)
    if status == httpx.codes.GONE:
        return Outcome("The receiver answers 410: it wants no more of these.", status, gone=True)
    if answer.is_redirect:
        return Outcome(f"The receiver answers {status}: redirects are not followed.", status)
    return Outcome(f"The receiver answers {status}.", status, _retry_after_s(answer))


def _retry_after_s(answer: httpx.Response) -> float | None:
    told = answer.headers.get("retry-after", "").strip()
    return float(told) if told.isascii() and told.isdecimal() and len(told) < 10 else None
