"""The client's IP address, as seen by the outermost of our own proxies."""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from authn.conf import conf


def address(meta: Mapping[str, Any]) -> str | None:
    """The address that the outermost of our ``NUM_PROXIES`` proxies saw. Without a proxy: the peer's address.

    Each proxy appends the address it sees to ``X-Forwarded-For``. So our proxies' entries are counted from
    the right, and the client can forge everything further left. If there are too few entries, or the entry is
    not an address, the request did not come through our proxies, and the peer's address counts. ``meta``:
    ``request.META``.
    """
    peer: str | None = meta.get("REMOTE_ADDR")
    forwarded, proxies = meta.get("HTTP_X_FORWARDED_FOR", "").split(","), conf.NUM_PROXIES
    entry = _parse(forwarded[-proxies]) if 0 < proxies <= len(forwarded) else ""
    # The peer's address is parsed too: on a dual-stack socket (uvicorn's --host :: with several workers), an
    # IPv4 peer has an IPv4-mapped IPv6 address, and all of these are in one /64 network.
    return entry or _parse(peer or "") or peer


def network(meta: Mapping[str, Any]) -> str:
    """The IPv4 address, or the /64 network of an IPv6 address: one IPv6 client may use 2^64 addresses."""
    client = address(meta) or ""
    try:
        parsed = ip_address(client)
    except ValueError:  # a Unix socket has no address
        return client
    return str(ip_network((client, 64), strict=False)) if isinstance(parsed, IPv6Address) else client


def _parse(entry: str) -> str:
    """The address, without a port that some proxies append ("203.0.113.7:4711", "[2001:db8::1]:4711"). "" if
    it is none."""
    entry = entry.strip()
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        parsed = ip_address(entry)
    except ValueError:
        return ""
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
