"""Turns errors into HTTP responses.

Every error body is ``{"error": "<message>", "status": <int>, "message": "<the same message>"}``. ChatKit's
client shows ``message``.
"""

import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, NotAuthenticated, ParseError
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from authn import audit, throttling
from authn.authentication import challenge
from authn.conf import conf
from authn.errors import BodyTooLarge, InsufficientScope, TokenRefused, TooManyAttempts, Unavailable
from runtime.outages import is_outage

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = Unavailable.wait


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: returns the response for an exception.

    Returns ``None`` for an unexpected exception. Then Django logs it and responds with 500.
    """
    if isinstance(exc, NotAuthenticated):
        exc.detail = ErrorDetail("Authentication credentials were not provided")
        try:
            throttling.record(audit.Attempt(context["request"]), "no_credentials", exc.status_code)
        except TooManyAttempts as too_many:
            exc = too_many
    response = drf_exception_handler(_as_api_exception(exc), context)
    if response is None:
        return None
    if isinstance(exc, TokenRefused) and "WWW-Authenticate" in response:
        response["WWW-Authenticate"] += ', error="invalid_token"'
    if isinstance(exc, InsufficientScope):
        _log_insufficient_scope(context["request"])
        response["WWW-Authenticate"] = challenge(
            error=exc.default_code, scope=" ".join(exc.scopes), resource_metadata=exc.metadata_url
        )
    is_logged = isinstance(exc, TooManyAttempts) or (isinstance(exc, Unavailable) and exc.is_logged)
    if is_logged:
        setattr(response, "_has_been_logged", True)  # noqa: B010 - otherwise Django logs the response again
    if response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
        if not is_logged:
            # Log one line without a traceback, because an outage causes many. The message of the exception
            # may be logged: PostgreSQL's messages hold no passwords.
            logger.error("Unavailable: %s", exc.__cause__ or exc)
    detail = response.data["detail"] if isinstance(response.data, dict) and "detail" in response.data else ""
    response.data = error_body(str(detail) or response.reason_phrase, response.status_code)
    return response


def _log_insufficient_scope(request: Any) -> None:
    """Write an audit record. The one before it says that the token itself was accepted."""
    attempt = audit.Attempt(request, "oauth")
    attempt.claims = getattr(request.auth, "access_token", None)
    attempt.log_refused(InsufficientScope.default_code, InsufficientScope.status_code)


def _as_api_exception(exc: Exception) -> Exception:
    match exc:
        case _ if is_outage(exc):
            return Unavailable()
        case RequestDataTooBig():
            return BodyTooLarge.over(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        case SuspiciousOperation():
            return ParseError("Bad request")
    return exc


def error_body(message: str, status_code: int) -> dict[str, str | int]:
    return {"error": message, "status": status_code, "message": message}


def json_errors_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Replaces Django's HTML error pages with JSON: unknown path, wrong host, server error, DEBUG's pages."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        return as_json(request, get_response(request))

    return middleware


def as_json(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Make the body JSON if the response is an error under JSON_ERRORS_UNDER and is not JSON yet."""
    if (
        response.status_code < HTTPStatus.BAD_REQUEST
        or not isinstance(response, HttpResponse)
        or not conf.JSON_ERRORS_UNDER
        or not request.path_info.startswith(conf.JSON_ERRORS_UNDER)
        or response.headers.get("Content-Type", "").startswith("application/json")
    ):
        return response
    # Replace only the body. Headers such as Allow, CORS and HSTS are still right.
    response.content = json.dumps(error_body(response.reason_phrase, response.status_code))
    response.headers["Content-Type"] = "application/json"
    if response.has_header("Content-Length"):  # the length of the replaced page
        response.headers["Content-Length"] = str(len(response.content))
    return response
