"""Reads SUPPORT_MCP_SERVERS, and signs the tokens with which these servers identify the user.

MCP forbids that we pass the client's token on: an MCP server could send that token to our API and act as the
user. So we sign a token of our own for each MCP server, which no other server accepts. docs/tools.md shows
how an MCP server verifies this token.
"""

import re
import uuid
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt

from authn.sessions import Organization
from support.conf import conf

ISSUER = "chatbackend"
TOKEN_LIFETIME = timedelta(seconds=60)  # enough for a long answer, because each HTTP request has a new token
MIN_SECRET_BYTES = 32  # the size of HS256's digest, as RFC 7518, section 3.2 demands

# The name of a server. The model knows each tool by the server's name and the tool's name together. OpenAI
# allows 64 of these characters for both.
NAME = re.compile(r"[a-z][a-z0-9_-]{0,23}")


@dataclass(frozen=True, slots=True)
class ToolServer:
    """An entry of SUPPORT_MCP_SERVERS.

    ``secret``: the key of this server's tokens. Only this server shares it with us. A server without a secret
    gets no token.
    """

    name: str
    url: str
    secret: str = field(default="", repr=False)

    def token_for(self, user_id: str, organization: Organization | None = None) -> str:
        """Return a JWT that names the user. Its audience is the server's URL. It expires in a minute.

        If the user has an active organization, the JWT also names it (``org_id``), and the user's role in it
        (``org_role``). Auth0 and WorkOS use the first of these names, and Clerk uses both.
        """
        now = datetime.now(UTC)
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": self.url,
            "sub": user_id,
            "iat": now,
            "exp": now + TOKEN_LIFETIME,
            "jti": uuid.uuid4().hex,
        }
        if organization:
            claims |= {"org_id": organization.id, "org_role": organization.role}
        return jwt.encode(claims, self.secret, algorithm="HS256")


def configured() -> list[ToolServer]:
    """Return the servers of SUPPORT_MCP_SERVERS. The system checks have validated the setting."""
    return [ToolServer(**entry) for entry in conf.SUPPORT_MCP_SERVERS]


def problems(entries: Any) -> list[str]:
    """Return the problems of SUPPORT_MCP_SERVERS, as sentences for the operator.

    Each sentence about one entry begins with the entry's number. No sentence quotes a secret.
    """
    if not isinstance(entries, list):
        return ["it is not a list"]
    found = [
        f"number {number}: {problem}"
        for number, entry in enumerate(entries, 1)
        for problem in _problems_of(entry)
    ]
    if found:
        return found
    for key, why in {
        "name": "their tools would have the same names",
        "secret": "each could sign tokens for the other",
    }.items():
        values = [entry[key] for entry in entries if entry.get(key)]
        if len(set(values)) < len(values):
            found.append(f"two servers have the same {key}: {why}")
    return found


def _problems_of(entry: Any) -> list[str]:
    known = {part.name for part in fields(ToolServer)}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        return ["it is not an object with strings for values"]
    found = []
    if not NAME.fullmatch(entry.get("name", "")):
        found.append("its name should be a lower-case word of at most 24 letters, digits, _ and -")
    if not _is_server_url(entry.get("url", "")):
        found.append("its url should be an http(s) URL without user, query and fragment")
    if "secret" in entry and len(entry["secret"].encode()) < MIN_SECRET_BYTES:
        found.append(f"its secret should have at least {MIN_SECRET_BYTES} bytes")
    if set(entry) - known:
        found.append(f"only {', '.join(sorted(known))} are allowed")
    return found


def _is_server_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if the port is not a number
    except ValueError:
        return False
    unwanted = parts.username or parts.password or parts.query or parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not unwanted and url.isprintable()
