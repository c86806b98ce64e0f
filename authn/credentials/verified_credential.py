"""A verified credential, as ``authn.throttling`` counts and blocks it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(slots=True, repr=False)  # no repr: error reports must not show the token
class VerifiedCredential:
    """A credential whose signature is verified.

    ``counter``: the name of the counter for its refused attempts. Several JWTs can share a counter.
    ``token``: the name of this one token. Over the limit, ``authn.throttling`` blocks the name, and the token
    is not looked up again. "" if the token is refused before its look-up.

    Both have the form ``<kind>:<value>``. ``authn.throttling`` stores only hashes of the values. It hashes
    them only when it needs them, because an accepted request needs no hash.
    """

    counter: str
    token: str

    @classmethod
    def session_token(cls, token: str) -> Self:
        name = f"session-token:{token}"
        return cls(counter=name, token=name)

    @classmethod
    def access_token(cls, token: str) -> Self:
        """An opaque access token that was found."""
        name = f"access-token:{token}"
        return cls(counter=name, token=name)

    @classmethod
    def jwt(cls, session_id: Any, user_id: Any, token: str = "") -> Self:
        """``token``: the JWT, if its user and session are looked up next. Otherwise ""."""
        counter = f"session:{session_id}" if session_id else f"user:{user_id}"
        # The name leaves out the signature: each ECDSA signature has a second valid form, and anybody can
        # compute it.
        return cls(counter=counter, token=f"jwt:{token.rpartition('.')[0]}" if token else "")

    @classmethod
    def refused_jwt(cls, payload: Mapping[str, Any] | None) -> Self | None:
        """Return the credential of a JWT that is refused before its look-up.

        ``payload``: ``TokenRefused.verified_payload``. Without it, the JWT is not verified: returns ``None``.
        """
        return None if payload is None else cls.jwt(payload.get("sid"), payload.get("sub"))
