"""Measures the bodies of requests while they arrive, and cuts off those that are too long.

Django's handler stores the whole body before any middleware or view runs. Its own limits come later, and
trust the Content-Length header. A chunked body has no such header.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

EXCEEDED = "runtime.body_limit_exceeded"  # a key of the ASGI scope. Value: the limit in bytes


def limited(
    application: Any, longest_body: Callable[[], int], applies_to: Callable[[Any], bool] = lambda scope: True
) -> Any:
    """Wrap the ASGI application: longer bodies are cut off at ``longest_body()`` bytes, and marked.

    ``applies_to``: whether the limit is for the request with this ASGI scope. Called only if the body is too
    long. Content-Length is replaced by the measured length.
    """

    async def limited_application(scope: Any, receive: Any, send: Any) -> None:
        limit: float = longest_body()
        length = 0

        async def receive_within_limit() -> Any:
            nonlocal limit, length
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                length += len(message.get("body", b""))
                if length > limit and EXCEEDED not in scope:
                    if applies_to(scope):
                        scope[EXCEEDED] = limit
                        return {
                            "type": "http.request"
                        }  # Django sees the end of the body; the rest is dropped
                    limit = float("inf")
                if length <= limit:
                    if not message.get("more_body"):
                        scope["headers"] = _with_content_length(scope["headers"], length)
                    return message

        await application(scope, receive_within_limit, send)

    return limited_application


def exceeded(request: HttpRequest) -> int | None:
    """Return the limit in bytes if the request's body was too long and is cut off."""
    limit: int | None = getattr(request, "scope", {}).get(EXCEEDED)
    return limit


def _with_content_length(headers: Any, length: int) -> list[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*others, (b"content-length", str(length).encode())]
