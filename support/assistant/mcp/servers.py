"""The MCP servers whose tools the assistant may use, and how one of them learns who is asking.

MCP forbids passing a client's token on to another server: whoever gets Better Auth's could use it here,
as the user. So each server gets a token of ours, made out to that server alone. docs/tools.md shows how
it is verified.
"""

import re
import uuid
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt

from support.conf import conf

ISSUER = "chatbackend"
TOKEN_LIFETIME = timedelta(seconds=60)  # every HTTP request has a new one, so no run can outlive its token
MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: as long as HS256's digest

# It begins the names of the server's tools, which OpenAI bounds to 64 of these characters.
NAME = re.compile(r"[a-z][a-z0-9_-]{0,23}")


@dataclass(frozen=True, slots=True)
class ToolServer:
    """``secret``: shared with that server and no other; without one, nobody is named to it."""

    name: str
    url: str
    secret: str = field(default="", repr=False)

    def token_for(self, user_id: str) -> str:
        """A short-lived token that says to this server, and to no other, for whom we call."""
        now = datetime.now(UTC)
        claims = {
            "iss": ISSUER,
            "aud": self.url,
            "sub": user_id,
            "iat": now,
            "exp": now + TOKEN_LIFETIME,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")


def configured() -> list[ToolServer]:
    """The servers of SUPPORT_MCP_SERVERS, which the system checks have found good."""
    return [ToolServer(**entry) for entry in conf.SUPPORT_MCP_SERVERS]


def problems(entries: Any) -> list[str]:
    """What is wrong with SUPPORT_MCP_SERVERS, each by its place in the list. Never quotes a secret."""
    if not isinstance(entries, list):
        return ["it is no list"]
    found = [
        f"number {place}: {fault}" for place, entry in enumerate(entries, 1) for fault in _problems_of(entry)
    ]
    if found:
        return found
    for key, why in {
        "name": "their tools could not be told apart",
        "secret": "either could speak for us to the other",
    }.items():
        values = [entry[key] for entry in entries if entry.get(key)]
        if len(set(values)) < len(values):
            found.append(f"two servers have the same {key}: {why}")
    return found


def _problems_of(entry: Any) -> list[str]:
    known = {part.name for part in fields(ToolServer)}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        return ["it is no object with texts for values"]
    found = []
    if not NAME.fullmatch(entry.get("name", "")):
        found.append("its name should be a lower-case word of at most 24 letters, digits, _ and -")
    if not _is_address(entry.get("url", "")):
        found.append("its url should be an http(s) address without user, query and fragment")
    if "secret" in entry and len(entry["secret"].encode()) < MIN_SECRET_BYTES:
        found.append(f"its secret should have at least {MIN_SECRET_BYTES} bytes")
    if set(entry) - known:
        found.append(f"only {', '.join(sorted(known))} are known")
    return found


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return False
    unwanted = parts.username or parts.password or parts.query or parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not unwanted and url.isprintable()
