"""The refusals. ``authn.responses`` turns them into HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError
from rest_framework import status
from rest_framework.exceptions import APIException, AuthenticationFailed


class Refused(APIException):
    """A request that is not let in. ``reason`` is for the audit record alone; the caller sees the message."""

    def __init__(self, reason: str = "", key_id: str | None = None, algorithm: str | None = None) -> None:
        super().__init__()
        self.reason = reason or self.default_code
        self.key_id, self.algorithm = key_id, algorithm


class TokenRefused(Refused, AuthenticationFailed):
    """One answer for every bad token, so that a forger learns nothing from it."""

    default_detail = "Invalid or expired JWT token"
    default_code = "invalid_token"


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


class Unavailable(Refused):
    """The database or the key source does not answer: nobody gets in, nobody is told to go."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Service temporarily unavailable"
    default_code = "database_unavailable"


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"


@contextmanager
def database_or_unavailable() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as exc:
        raise Unavailable from exc
