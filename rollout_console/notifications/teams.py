"""One attempt to tell a service that teams use, by Apprise. No database here."""

import logging
import threading
from typing import Any, Final
from urllib.parse import urlencode

import apprise
from django.conf import settings

from rollout_console.notifications.addresses import AddressRefused, host_fault, host_look_up
from rollout_console.notifications.outcome import Outcome
from rollout_console.notifications.words import Message

# Apprise speaks to some 130 services, among them this machine's desktop, serial ports and any
# address at all. These are the ones that teams talk and page with; what is posted anywhere is a
# signed webhook.
SERVICES: Final = frozenset(
    {
        *("NotifyDingTalk", "NotifyDiscord", "NotifyFeishu", "NotifyFlock", "NotifyGoogleChat"),
        *("NotifyGotify", "NotifyLark", "NotifyMatrix", "NotifyMattermost"),
        *("NotifyNtfy", "NotifyOpsgenie", "NotifyPagerDuty", "NotifyRocketChat", "NotifySlack"),
        *("NotifySplunk", "NotifyTelegram", "NotifyTwist", "NotifyWebexTeams", "NotifyWorkflows"),
        *("NotifyZulip",),
    }
)
# Of connecting and of reading, as Apprise is told by its address.
CONNECT_S: Final = 3
READ_S: Final = 5
_log = logging.getLogger("apprise")


class _Heard(logging.Handler):
    """Keeps what Apprise says of its failures in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.said.append(record.getMessage())


def service_fault(address: str) -> str | None:
    """Return why no message may go to this address, as far as its text says; else None."""
    plugin = _plugin(address)
    if plugin is None:
        return "This is no address of a service in Apprise's form, such as slack://… or discord://…"
    if type(plugin).__name__ not in SERVICES:
        return "Messages do not go to this kind of service; a signed webhook goes to any address."
    host = _own_host(plugin)
    return host_fault(host) if host else None


def service_shown(address: str) -> str:
    """Return what may be shown of an address: the service, and its host where it is one's own."""
    plugin = _plugin(address)
    if plugin is None:
        return ""
    host = _own_host(plugin)
    return f"{plugin.service_name} at {host}"[:200] if host else str(plugin.service_name)[:200]


def service_send(*, address: str, message: Message) -> Outcome:
    """Send a message; Apprise says whether it was taken, and in its log why not."""
    if fault := service_fault(address):
        return Outcome(fault)
    plugin = _plugin(f"{address}{'&' if '?' in address else '?'}{_timeouts()}")
    if plugin is None:
        return Outcome("This address cannot be read by Apprise any more.")
    heard = _Heard()
    _log.addHandler(heard)
    try:
        if host := _own_host(plugin):
            host_look_up(host, plugin.port or 443)
        if plugin.notify(body=message.text, title=message.title):
            return Outcome()
    except AddressRefused as refused:
        return Outcome(str(refused))
    except (OSError, TypeError, ValueError) as error:
        return Outcome(f"The service cannot be told: {str(error)[:200]}.")
    finally:
        _log.removeHandler(heard)
    why = heard.said[-1].strip().rstrip(".") if heard.said else "it gives no reason"
    return Outcome(f"The service did not take it: {why[:200]}.")


def _plugin(address: str) -> Any:
    asset = apprise.AppriseAsset(
        app_id="Rollout Console",
        app_desc="Rollout Console",
        app_url=settings.CONSOLE_URL,
        # Pictures would be fetched from elsewhere by whoever reads the message.
        image_url_mask="",
        image_url_logo="",
        # Nothing is kept on this machine, no code is loaded from it.
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        plugin_paths=[],
        secure_logging=True,
    )
    return apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)


def _own_host(plugin: Any) -> str:
    """Return the host that a service runs on, "" where that is its maker's and not in the address.

    What stands in a host's place may be a token then.
    """
    if getattr(plugin, "mode", None) in ("cloud", "t2bot"):
        return ""
    takes_host = any("{host}" in template for template in plugin.templates)
    return str(plugin.host or "") if takes_host else ""


def _timeouts() -> str:
    return urlencode({"cto": CONNECT_S, "rto": READ_S, "retry": 0})
