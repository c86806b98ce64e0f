"""The client's IP address, as seen by the outermost of our own proxies."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from authn.conf import conf


def address(meta: Mapping[str, Any]) -> str | None:
    """Returns the client's IP address: the one that the outermost of our ``NUM_PROXIES`` proxies saw.

    Each proxy appends the IP address of its own client to ``X-Forwarded-For``. So the entries of our proxies
    are the last ``NUM_PROXIES`` ones, and the client can forge all entries before them.

    Returns the IP address of the connection in these cases:

    - There is no proxy.
    - The header has too few entries, or the entry is not an IP address. Then the request did not come through
      our proxies.

    ``meta``: ``request.META``.
    """
    peer: str | None = meta.get("REMOTE_ADDR")
    forwarded, proxies = meta.get("HTTP_X_FORWARDED_FOR", "").split(","), conf.NUM_PROXIES
    entry = _parse(forwarded[-proxies]) if 0 < proxies <= len(forwarded) else ""
    # The peer's IP address is parsed too. On a dual-stack socket (uvicorn's --host :: with several workers),
    # an IPv4 peer has an IPv4-mapped IPv6 address. Unparsed, all IPv4 clients would be in one /64 network.
    return entry or _parse(peer or "") or peer


def network(meta: Mapping[str, Any]) -> str:
    """Returns the client's IPv4 address, or the /64 network of its IPv6 address.

    One client may use all 2^64 IP addresses of its /64 network, so all of them count as one client.
    """
    client = address(meta) or ""
    try:
        parsed = ip_address(client)
    except ValueError:  # a Unix socket has no address
        return client
    return str(ip_network((client, 64), strict=False)) if isinstance(parsed, IPv6Address) else client


@lru_cache(maxsize=256)  # the audit log needs the address of every request
def _parse(entry: str) -> str:
    """Returns the IP address in an entry of X-Forwarded-For, or "" if the entry is not an IP address.

    Some proxies append a port: "203.0.113.7:4711", "[2001:db8::1]:4711".
    """
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
