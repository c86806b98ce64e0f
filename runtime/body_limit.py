"""Measures the bodies of requests while they arrive, and cuts off those that are too long.

Django's handler stores the whole body before any middleware or view runs. Django's own limits apply later.
They trust the Content-Length header, and a chunked body has no such header.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

EXCEEDED = "runtime.body_limit_exceeded"  # a key of the ASGI scope. Value: the limit in bytes


def limited(
    application: Any, longest_body: Callable[[], int], applies_to: Callable[[Any], bool] = lambda scope: True
) -> Any:
    """Return an ASGI application that cuts off bodies of more than ``longest_body()`` bytes.

    A cut body is marked in the ASGI scope (``EXCEEDED``). For any other body, the measured length replaces
    Content-Length. ``applies_to``: whether the limit is for the request with this scope. It is called only if
    the body is too long.
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
                        # Django sees the end of the body. This loop drops the rest.
                        return {"type": "http.request"}
                    limit = float("inf")
                if length <= limit:
                    if not message.get("more_body"):
                        _set_content_length(scope, length)
                    return message

        await application(scope, receive_within_limit, send)

    return limited_application


def exceeded(request: HttpRequest) -> int | None:
    """Return the limit in bytes if the request's body was too long and was cut off. Otherwise ``None``."""
    limit: int | None = getattr(request, "scope", {}).get(EXCEEDED)
    return limit


def _set_content_length(scope: Any, length: int) -> None:
    measured = str(length).encode()
    if [value for name, value in scope["headers"] if name.lower() == b"content-length"] != [measured]:
        others = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
        scope["headers"] = [*others, (b"content-length", measured)]
