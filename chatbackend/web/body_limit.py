"""Limits for the length of bodies and headers, before anybody is authenticated.

Django's handler stores the whole body first. Its own limits come later, and trust the Content-Length header.
A chunked body has no such header.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from authn.responses import error_body
from support import views
from support.attachments import views as attachment_views

MAX_HEADERS_LENGTH = 32 * 1024  # bytes of all names and values; nginx accepts as much
BODY_LENGTH = "chatbackend.body_length"  # a key of the ASGI scope: the measured length in bytes


def limited(application: Any) -> Any:
    """Wrap the ASGI application: bodies are cut off at the longest body that any view accepts."""

    async def limited_application(scope: Any, receive: Any, send: Any) -> None:
        async def receive_within_limit() -> Any:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body = message.get("body", b"")
                scope[BODY_LENGTH] = length = scope.get(BODY_LENGTH, 0) + len(body)
                if length <= limit:
                    return message
                if length - len(body) <= limit:
                    return {"type": "http.request"}  # Django sees the end of the body; the rest is dropped

        limit = longest_body()
        await application(scope, receive_within_limit, send)

    return limited_application


def body_limit_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answers 413 and 431.

    It is the last middleware. So the others add to its answer: CORS headers, a request id, a log line.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        scope = getattr(request, "scope", {})
        if sum(len(name) + len(value) for name, value in scope.get("headers", ())) > MAX_HEADERS_LENGTH:
            return JsonResponse(error_body(f"The headers exceed {MAX_HEADERS_LENGTH} bytes", 431), status=431)
        length, limit = scope.get(BODY_LENGTH), longest_body()
        if length is None:  # a request of Django's test client
            return get_response(request)
        if length > limit:
            return JsonResponse(error_body(f"The request body exceeds {limit} bytes", 413), status=413)
        request.META["CONTENT_LENGTH"] = str(length)
        return get_response(request)

    return middleware


def longest_body() -> int:
    return max(views.longest_body(), attachment_views.longest_body())
