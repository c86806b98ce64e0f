"""Turns the text in a search box into conditions that an index can answer."""

import re
from ipaddress import ip_address

from django.db.models import Q

IP_ADDRESS_PREFIX = re.compile(r"[0-9a-f.:]+[.:]", re.IGNORECASE)


def by_email(typed: str) -> Q:
    """Matches an email address as it was typed, and in lower case, as Better Auth stores it.

    It does not use ``iexact``, because PostgreSQL could use no index.
    """
    return Q(email__in={typed, typed.lower()})


def by_ip_address(typed: str) -> Q:
    """Matches an IP address, or all IP addresses that begin with a text ending with a dot or a colon."""
    return Q(ip_address__startswith=typed) if typed.endswith((".", ":")) else Q(ip_address=typed)


def is_ip_address(typed: str) -> bool:
    """Whether the text is an IP address, or the beginning of an IP address, such as ``203.0.113.``."""
    try:
        ip_address(typed)
    except ValueError:
        return IP_ADDRESS_PREFIX.fullmatch(typed) is not None
    return True
