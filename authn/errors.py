"""The exceptions of this app. ``authn.responses`` turns them into HTTP responses."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError
from rest_framework import status
from rest_framework.exceptions import APIException, AuthenticationFailed

from runtime.outages import is_outage

if TYPE_CHECKING:
    from authn.models import Session


class Refused(APIException):
    """The request is refused. The client gets only the message.

    The attributes are for the audit log. ``reason``: a key of ``authn.diagnosis.reasons.REASONS``.
    ``key_id``, ``algorithm``: of the key that a JWT names. ``session``: the refused session, if it was found.
    """

    def __init__(
        self,
        reason: str = "",
        key_id: str | None = None,
        algorithm: str | None = None,
        session: "Session | None" = None,
    ) -> None:
        super().__init__()
        self.reason = reason or self.default_code
        self.key_id, self.algorithm, self.session = key_id, algorithm, session


class TokenRefused(Refused, AuthenticationFailed):
    """A token is refused. The response is the same for every reason, so an attacker learns nothing from it.

    ``verified_payload``: all claims of a JWT whose signature is verified. Otherwise ``None``.
    """

    default_detail = "Invalid or expired JWT token"
    default_code = "invalid_token"
    verified_payload: Mapping[str, Any] | None = None


class TwoCredentials(Refused):
    """The request has more than one credential. We cannot know which one the client means to use, and an
    attacker may have added one."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "More than one credential on one request"
    default_code = "two_credentials"


class SeveralSessionCookies(Refused):
    """The request has more than one valid session cookie, or more session cookies than we look up."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "More than one session cookie on one request"
    default_code = "several_session_cookies"


class OriginRefused(Refused):
    status_code = status.HTTP_403_FORBIDDEN
    default_detail = "A session cookie is only accepted with the Origin of an allowed page"
    default_code = "origin"


class UserNotFound(Refused):
    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "User not found with provided email"
    default_code = "user_not_found"


class NoActiveSession(Refused):
    status_code = status.HTTP_404_NOT_FOUND
    default_detail = "No active sessions found for user"
    default_code = "no_active_session"


class UserBanned(Refused):
    status_code = status.HTTP_403_FORBIDDEN
    default_detail = "User is banned"
    default_code = "user_banned"


class InsufficientScope(APIException):
    """The access token is good, but the user has not allowed the client to do this.

    ``scopes``: all that the request needs. The client asks the user for them (RFC 6750 §3.1).
    """

    status_code = status.HTTP_403_FORBIDDEN
    default_detail = "The access token does not have a scope that this needs"
    default_code = "insufficient_scope"

    def __init__(self, scopes: Iterable[str], metadata_url: str) -> None:
        super().__init__()
        self.scopes, self.metadata_url = sorted(scopes), metadata_url


class TooManyAttempts(Refused):
    """The attempt is over the limit. ``wait``: seconds, which DRF sends as ``Retry-After``."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_detail = "Too many refused attempts. Try again later"
    default_code = "too_many_attempts"

    def __init__(self, wait: int) -> None:
        super().__init__()
        self.wait = wait


class Unavailable(Refused):
    """A service that we need does not answer, so we cannot know whether the credential is valid."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Service temporarily unavailable"
    default_code = "database_unavailable"
    # Seconds, which DRF sends as ``Retry-After``. A database that restarts is usually back by then.
    wait = 2

    @property
    def is_logged(self) -> bool:
        """Whether the outage is in the log already. PostgreSQL's circuit breaker logs only some outages."""
        return self.reason != self.default_code


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"

    @classmethod
    def over(cls, limit: int) -> "BodyTooLarge":
        """``limit``: the most bytes that are allowed."""
        return cls(f"The request body exceeds {limit} bytes")


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Raise ``Unavailable`` in place of a database error, if the error means that the database is down."""
    try:
        yield
    except (DatabaseError, InterfaceError) as exc:
        if not is_outage(exc):
            raise
        raise Unavailable from exc
