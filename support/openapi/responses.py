"""The error responses and the headers that the operations under /support/ have in common."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from support.openapi.components import ref

# For each status: when it is sent, and an example of the message.
ERRORS = {
    400: ("The body is not a valid request, or there are two credentials.", "params.thread_id is missing"),
    401: (
        "The credentials are missing or not valid. A new token helps if the token has expired, if its own "
        "session has ended and the user has another one, or if the user has changed their e-mail address.",
        "Invalid or expired JWT token",
    ),
    403: ("The user is banned, or this page's origin may not send a cookie.", "User is banned"),
    404: (
        "The user does not exist or has no active session; or the requested object does not exist or belongs "
        "to another user. These last two cases get the same response.",
        "Not found",
    ),
    409: ("The attachment was uploaded before.", "This attachment has been uploaded already"),
    413: ("The body is too large.", "The request body exceeds 1000000 bytes"),
    429: (
        "Too many requests of this user, too many answers to this user at the same time, or too many refused "
        "attempts.",
        "Request was throttled. Expected available in 23 seconds.",
    ),
    500: ("An error of the server.", "Internal Server Error"),
    501: (
        "This ChatKit server does not support the operation.",
        "This server does not support that operation",
    ),
    503: ("The database, the keys or a model cannot be reached.", "Service temporarily unavailable"),
}
# What every operation with authentication and a body can answer.
COMMON_ERRORS = (400, 401, 403, 404, 413, 429, 500, 501, 503)


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    return {
        status: OpenApiResponse(
            ref("Error"),
            description=ERRORS[status][0],
            examples=[OpenApiExample(f"{status}", _error_body(ERRORS[status][1], status))],
        )
        for status in statuses
    }


def _error_body(message: str, status: int) -> dict[str, Any]:
    return {"error": message, "status": status, "message": message}


def _response_header(name: str, kind: type, description: str, *statuses: int) -> OpenApiParameter:
    """A header of the responses with these statuses. No status: of all responses."""
    return OpenApiParameter(
        name,
        kind,
        OpenApiParameter.HEADER,
        required=True,
        description=description,
        response=list(statuses) or True,
    )


HEADERS = [
    OpenApiParameter(
        "X-Request-ID",
        str,
        OpenApiParameter.HEADER,
        description="Up to 128 letters, digits, `.`, `_`, `:`, `=` and `-`. Log and response repeat it. "
        "The server replaces any other value by a new one.",
    ),
    _response_header("X-Request-ID", str, "The request's own, or a new one."),
    _response_header("WWW-Authenticate", str, "The kind of credentials that the server accepts.", 401),
    _response_header("Retry-After", int, "Seconds.", 429, 503),
]
