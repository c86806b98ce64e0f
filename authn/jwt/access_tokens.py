"""OAuth access tokens that Better Auth issues to MCP clients."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A verified OAuth access token.

    ``subject``: the id of the user for whom the client acts. ``scopes``: what the user has allowed.
    ``session_id``: the session in which the user did so, or ``None``. ``expires_at``: aware UTC.
    """

    subject: str
    client_id: str
    scopes: frozenset[str]
    session_id: str | None
    expires_at: datetime
