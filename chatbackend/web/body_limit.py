"""A limit to the bodies that are stored before anybody is asked for a token, and to headers.

Django's handler reads a request's whole body first. Its own limits come later, and believe the
Content-Length that was said, of which a chunked body has none.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from authn.responses import error_body
from support import views
from support.attachments import views as attachment_views

HEADERS_LENGTH = 32 * 1024  # bytes, of names and values; as much as nginx takes
LENGTH = "chatbackend.body_length"  # in a request's scope: what was measured, in bytes


def limited(application: Any) -> Any:
    """The ASGI application, with bodies that end at the longest that any view takes."""

    async def limited_application(scope: Any, receive: Any, send: Any) -> None:
        async def receive_within_limit() -> Any:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body = message.get("body", b"")
                scope[LENGTH] = length = scope.get(LENGTH, 0) + len(body)
                if length <= limit:
                    return message
                if length - len(body) <= limit:
                    return {"type": "http.request"}  # to Django the body ends here; the rest is dropped

        limit = longest_body()
        await application(scope, receive_within_limit, send)

    return limited_application


def body_limit_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Last of all, so that the refusal has what other middleware adds: CORS, a request id, a log line."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        scope = getattr(request, "scope", {})
        if sum(len(name) + len(value) for name, value in scope.get("headers", ())) > HEADERS_LENGTH:
            return JsonResponse(error_body(f"The headers exceed {HEADERS_LENGTH} bytes", 431), status=431)
        length, limit = scope.get(LENGTH), longest_body()
        if length is None:  # no ASGI server's: the test client's
            return get_response(request)
        if length > limit:
            return JsonResponse(error_body(f"The request body exceeds {limit} bytes", 413), status=413)
        request.META["CONTENT_LENGTH"] = str(length)
        return get_response(request)

    return middleware


def longest_body() -> int:
    return max(views.longest_body(), attachment_views.longest_body())
