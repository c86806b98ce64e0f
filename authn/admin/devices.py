"""Finds the name of a session's device in its user agent. A client may send any text as its user agent."""

from typing import Any

# Longer user agents are cut, because clients choose their length. `requirements.txt` says why this parser is
# safe.
MAX_USER_AGENT_LENGTH = 1_000
MAX_SHOWN_LENGTH = 80  # characters of a user agent that is shown unchanged


def device(user_agent: str | None) -> str:
    """Returns a name such as "Chrome 140, Linux" or "Mobile Safari 18, iOS 18, Apple iPhone", or "".

    Without the package ua-parser, returns the beginning of the user agent itself.
    """
    try:
        import ua_parser  # imported here: this takes half a second, and only the admin needs it
    except ImportError:
        return (user_agent or "")[:MAX_SHOWN_LENGTH]

    parsed = ua_parser.parse((user_agent or "")[:MAX_USER_AGENT_LENGTH])
    parts = [_name_and_version(parsed.user_agent), _name_and_version(parsed.os)]
    if (hardware := parsed.device) is not None and hardware.brand and hardware.family != "Other":
        model = hardware.model or hardware.family
        parts.append(model if model.startswith(hardware.brand) else f"{hardware.brand} {model}")
    return ", ".join(filter(None, parts))


def _name_and_version(product: Any) -> str:
    return "" if product is None else f"{product.family} {product.major or ''}".strip()
