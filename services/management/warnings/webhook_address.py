"""Where a webhook may lead: never into private networks, whatever a name resolves to at the moment."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

_PORTS = {"https": 443, "http": 80}
_HOST_CHARS_MAX = 253
# Addresses of IPv6 that carry one of IPv4, which is what counts: NAT64 (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressError(Exception):
    """The address is not one that this node posts to; the text says why, without repeating it."""


class Target(NamedTuple):
    """Where to connect: the address that was checked, so that the name cannot lead elsewhere a moment later."""

    address: str
    port: int
    host: str
    url: SplitResult


def checked(url: str, *, private: bool) -> SplitResult:
    """Return the parts of a URL that may be a webhook's. Raises AddressError. `private` allows http as well."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError("must be a URL") from error
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes:
        raise AddressError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if parts.username is not None or parts.password is not None:
        raise AddressError("must not hold a user or password")
    host = parts.hostname or ""
    if not host or len(host) > _HOST_CHARS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressError("must name a host, in plain ASCII")
    if port == 0:
        raise AddressError("must not name port 0")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return parts
    if not private and not is_public(literal):
        raise AddressError("must not lead into a private network")
    return parts


async def resolved(url: str, *, private: bool) -> Target:
    """Return where a URL leads now. Raises AddressError when any of its addresses is one that may not be posted to."""
    parts = checked(url, private=private)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError("its host name does not resolve") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses:
        raise AddressError("its host name does not resolve")
    if not private and not all(is_public(ipaddress.ip_address(each.partition("%")[0])) for each in addresses):
        raise AddressError("its host name leads into a private network")
    return Target(addresses[0], port, host, parts)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say whether an address is one of the public network, also where it carries another inside."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address in _NAT64:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
