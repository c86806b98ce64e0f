"""The error responses and the headers that the operations under /support/ have in common."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from support.openapi.components import ref

# For each status: a description of the cases, and an example of the message.
ERRORS = {
    400: ("The request is not valid, or it has more than one credential.", "params.thread_id is missing"),
    401: (
        "The credentials are missing or not valid. If you sent a token, get a new one and try once more. "
        "This helps if the token has expired, or if the user has changed their email address. It also helps "
        "if the session of the token has ended, but the user has another active session.",
        "Invalid or expired JWT token",
    ),
    403: (
        "The user is banned. Or the request has a session cookie, and its page is not allowed to send one.",
        "User is banned",
    ),
    404: (
        "The conversation, item or attachment does not exist, or it belongs to another user. Both cases get "
        "the same response. The status is also 404 if the URL of a file is not valid any more, if the user "
        "does not exist, or if the user has no active session.",
        "Not found",
    ),
    409: (
        "This attachment has already been uploaded, with other bytes.",
        "This attachment has been uploaded already",
    ),
    413: (
        "The body or the file is too large. The message names the limit.",
        "The request body exceeds 1000000 bytes",
    ),
    429: (
        "The user has sent too many requests or gets too many answers at the same time. Or there were too "
        "many refused attempts from this address or with these credentials.",
        "Request was throttled. Expected available in 23 seconds.",
    ),
    500: ("An unexpected error of the server.", "Internal Server Error"),
    501: (
        "This ChatKit server does not support the operation.",
        "This server does not support that operation",
    ),
    503: (
        "The server is busy, or cannot reach the database or another service that it needs.",
        "Service temporarily unavailable",
    ),
}
# Every operation with authentication and a body can answer with these statuses.
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
    """Document a header of the responses with these statuses. Without statuses: a header of all responses."""
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
        description="An id for this request. It has up to 128 letters, digits, `.`, `_`, `:`, `=` and `-`. "
        "The log and the response contain the same id. If the id is missing or has another form, the server "
        "makes a new one.",
    ),
    _response_header("X-Request-ID", str, "The id of the request, from the request or made by the server."),
    _response_header(
        "WWW-Authenticate",
        str,
        'The authentication scheme. For a bad token, also `error="invalid_token"`.',
        401,
    ),
    _response_header("Retry-After", int, "The number of seconds to wait before the next try.", 429, 503),
]
