"""What the limit on refused attempts knows of a credential."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(slots=True, repr=False)  # no repr: error reports must not show the token
class VerifiedCredential:
    """A credential whose signature is good.

    ``counted_by``: the key under which its refused attempts are counted. ``token``: the key of the token
    itself. Past the limit it is not looked up again. Empty if it was never looked up. Only hashes of both are
    stored. They are hashed later, because a good request needs no hash.
    """

    counted_by: str
    token: str

    @classmethod
    def session_token(cls, token: str) -> Self:
        key = f"session-token:{token}"
        return cls(key, key)

    @classmethod
    def jwt(cls, session_id: Any, user_id: Any, token: str = "") -> Self:
        """``token``: only if its user and session are looked up next."""
        counted_by = f"session:{session_id}" if session_id else f"user:{user_id}"
        # Without the signature: each ECDSA signature has a second form, and anybody can compute it.
        return cls(counted_by, f"jwt:{token.rpartition('.')[0]}" if token else "")
