"""Where a request comes from: as far back as our own proxies tell, and no further."""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from authn.conf import conf


def address(meta: Mapping[str, Any]) -> str | None:
    """Whom the outermost of our ``NUM_PROXIES`` proxies has seen; without a proxy, who is connected.

    Each proxy appends whom it sees to ``X-Forwarded-For``, so ours are counted from the right, and what
    stands further left is the caller's own word. Where there are too few, or no address, the request has
    not come that way: then it is from whoever is connected. ``meta``: of Django's request.
    """
    connected: str | None = meta.get("REMOTE_ADDR")
    seen, proxies = meta.get("HTTP_X_FORWARDED_FOR", "").split(","), conf.NUM_PROXIES
    told = _address_in(seen[-proxies]) if 0 < proxies <= len(seen) else ""
    # Who is connected to a socket of both protocols (uvicorn's --host :: with several workers) by IPv4 has
    # an address of IPv6, and all of those are in one network.
    return told or _address_in(connected or "") or connected


def network(meta: Mapping[str, Any]) -> str:
    """Where one client's addresses are: of IPv6 everybody has 2^64 of their own."""
    told = address(meta) or ""
    try:
        parsed = ip_address(told)
    except ValueError:  # a Unix socket's has none
        return told
    return str(ip_network((told, 64), strict=False)) if isinstance(parsed, IPv6Address) else told


def _address_in(entry: str) -> str:
    """Of "203.0.113.7", and as some proxies write it "203.0.113.7:4711" or "[2001:db8::1]:4711"; else ""."""
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
