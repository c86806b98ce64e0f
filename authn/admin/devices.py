"""What a person signed in with, as far as the browser says so itself."""

from typing import Any

# Whoever signs in writes the user agent: longer ones are cut, and `requirements.txt` says how it is read.
LONGEST = 1_000


def device(user_agent: str | None) -> str:
    """Such as "Chrome 140, Linux" or "Mobile Safari 18, iOS 18, Apple iPhone"; empty when it says nothing."""
    import ua_parser  # its rules take half a second to load, and nobody but the admin needs them

    found = ua_parser.parse((user_agent or "")[:LONGEST])
    browser, system, thing = found.user_agent, found.os, found.device
    parts = [_versioned(browser), _versioned(system)]
    if thing is not None and thing.brand and thing.family != "Other":
        model = thing.model or thing.family
        parts.append(model if model.startswith(thing.brand) else f"{thing.brand} {model}")
    return ", ".join(filter(None, parts))


def _versioned(named: Any) -> str:
    return "" if named is None else f"{named.family} {named.major or ''}".strip()
