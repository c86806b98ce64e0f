"""The refusals. ``authn.responses`` turns them into HTTP."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError
from rest_framework import status
from rest_framework.exceptions import APIException, AuthenticationFailed

from runtime.outages import is_outage

if TYPE_CHECKING:
    from authn.models import Session


class Refused(APIException):
    """A request that is not let in. What is more than the message is for the audit record alone."""

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
    """One answer for every bad token, so that a forger learns nothing from it.

    ``verified_payload``: every claim of a JWT whose signature is good. ``None`` if it was not verified.
    """

    default_detail = "Invalid or expired JWT token"
    default_code = "invalid_token"
    verified_payload: Mapping[str, Any] | None = None


class TwoCredentials(Refused):
    """Which of the two counts would be a guess, and whoever planted one of them would know it."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "More than one credential on one request"
    default_code = "two_credentials"


class SeveralSessionCookies(Refused):
    """More than one session cookie is good, or there are too many to try."""

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


class TooManyAttempts(Refused):
    """``wait``: seconds, which REST framework says in ``Retry-After``."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_detail = "Too many refused attempts. Try again later"
    default_code = "too_many_attempts"

    def __init__(self, wait: int) -> None:
        super().__init__()
        self.wait = wait


class Unavailable(Refused):
    """What is needed to answer cannot be reached: nobody gets in, nobody is told to go."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Service temporarily unavailable"
    default_code = "database_unavailable"

    @property
    def is_logged(self) -> bool:
        """Whether a circuit breaker has logged the outage. For the database it has not."""
        return self.reason != self.default_code


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"


@contextmanager
def database_or_unavailable() -> Iterator[None]:
    try:
        yield
    except DatabaseError as exc:
        if not is_outage(exc):
            raise
        raise Unavailable from exc
    except InterfaceError as exc:
        raise Unavailable from exc
