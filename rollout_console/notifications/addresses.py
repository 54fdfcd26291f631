"""Where deliveries may go: looked up once, checked, and connected to as checked."""

import ipaddress
import socket
from urllib.parse import urlsplit

from django.conf import settings


class AddressRefused(Exception):
    """Nothing may be sent there; a sentence."""


def address_fault(url: str) -> str | None:
    """Return why no webhook may go to this address, as far as its text says; else None."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "The address cannot be read."
    if parts.scheme not in ("http", "https") or not host:
        return "The address begins with https:// (or http://) and names a host."
    if parts.username is not None or parts.password is not None:
        return "The address carries no user or password: the signature says who sent it."
    if parts.fragment:
        return "The address ends before #: what follows is never sent."
    return host_fault(host)


def host_fault(host: str) -> str | None:
    """Return why nothing may go to a host by its name; None where it may, or is to be looked up."""
    if settings.NOTIFY_HOSTS and not _is_named(host.lower()):
        return f"The setting NOTIFY_HOSTS does not allow deliveries to {host}."
    if host.lower().rstrip(".") in ("localhost", "localhost.localdomain"):
        return _fault_of(host, ipaddress.ip_address("127.0.0.1"))
    try:
        return _fault_of(host, ipaddress.ip_address(host))
    except ValueError:
        return None


def host_look_up(host: str, port: int) -> str:
    """Return an address of a host, after checking every one that it has.

    The caller connects to what is returned, not to the name: a name may answer otherwise the next
    time it is asked.

    Raises:
        AddressRefused
    """
    if fault := host_fault(host):
        raise AddressRefused(fault)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"There is no host {host}.") from error
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        # Without a link-local address's scope, as in fe80::1%eth0.
        if fault := _fault_of(host, ipaddress.ip_address(address.partition("%")[0])):
            raise AddressRefused(fault)
    return addresses[0]


def _fault_of(host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return f"{host} is no address of a receiver."
    if (address.is_loopback or address.is_link_local) and not settings.NOTIFY_LOOPBACK:
        return f"{host} is this machine or its own network: NOTIFY_LOOPBACK would allow it."
    return None


def _is_named(host: str) -> bool:
    for allowed in (each.lower() for each in settings.NOTIFY_HOSTS):
        if allowed == host or (allowed.startswith("*.") and host.endswith(allowed[1:])):
            return True
    return False
