"""URLs that are called with a key of somebody's: which of them a server of ours may call.

A URL that is set for one tenant must not make our server ask what only it can reach: its own ports, its network, the
metadata of the cloud that it runs in. So the name is resolved, and each address that it has must be a public one.
"""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from apps.core.secrets import KEY

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The IPv6 addresses of the internet. All others are a machine's or a network's own, and some of those are IPv4
#: addresses in other words (NAT64, SIIT), which a router on the way may unpack.
_UNICAST = ipaddress.ip_network("2000::/3")
#: No service's addresses, though they are public by their number. What ``is_global`` knows of them differs from one
#: release of Python to the next.
_RESERVED = tuple(
    ipaddress.ip_network(each)
    for each in (
        "2001::/23",  # for protocols: Teredo among them, which carries an IPv4 address
        "2002::/16",  # 6to4, which carries one
        "3fff::/20",  # for documentation
        "192.0.0.0/24",  # for protocols; Oracle's cloud has metadata there
        "192.88.99.0/24",  # routers of 6to4
        # By its number it is public, but on each of Azure's machines it is that machine's own host, which tells it
        # secrets: Microsoft's "What is IP address 168.63.129.16?".
        "168.63.129.16/32",
    )
)


class AddressRefusedError(ValueError):
    """The URL is not one that may be called; its text says why, for whoever has set it."""


def check(url: str) -> None:
    """Raise AddressRefusedError if the URL may not be called; OSError if its name cannot be resolved now.

    It is asked of the name server, so it is not called in a transaction that others wait for. What the name means a
    moment later is not known: see docs/providers.md.
    """
    parts = _split(url)
    if settings.ALLOW_PRIVATE_PROVIDER_URLS:
        return
    if parts.scheme != "https":
        raise AddressRefusedError("It must begin with https://.")
    for address in _resolved(parts):
        if not _is_public(address):
            raise AddressRefusedError(f"It leads to {address}, which is not a public address.")


def _split(url: str) -> SplitResult:
    # A backslash is where programs read an address differently.
    if not KEY.match(url) or "\\" in url:
        raise AddressRefusedError("It holds characters that no URL has.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefusedError("Its host or its port cannot be.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise AddressRefusedError("Give a scheme and a host, such as https://llm.example.com/v1.")
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressRefusedError("It may have no user, password, query or fragment.")
    return parts


def _resolved(parts: SplitResult) -> list[Address]:
    """Every address that the name has."""
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a part of the name is empty or too long
        raise AddressRefusedError("Its host cannot be.") from error
    return [ipaddress.ip_address(where[0]) for *_, where in found]


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    if any(address in network for network in _RESERVED):
        return False
    # A group's address is no machine's, though most of them are reserved for nobody.
    return address.is_global and not address.is_multicast
