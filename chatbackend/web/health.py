"""What a load balancer asks: is the process alive (/healthz), and should it be sent requests (/readyz)?

Answered before Django. A probe comes by IP address and over plain http, to which ALLOWED_HOSTS would say
400 and SECURE_SSL_REDIRECT 301; and a process of which every thread is busy is alive all the same.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from chatbackend.web.readiness import Readiness

Application = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]

HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


def answering_probes(application: Application) -> Application:
    """The ASGI application, with /healthz and /readyz in front."""
    readiness = Readiness()

    async def ready() -> tuple[int, Any]:
        checks = await readiness.checks()
        if all(word == "ok" for word in checks.values()):
            return 200, {"status": "ready", "checks": checks}
        return 503, {"status": "unavailable", "checks": checks}

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        # Where the application is mounted below a path (--root-path), that is what its paths begin with.
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if path not in ("/healthz", "/readyz"):
            await application(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, {"status": "method not allowed"}, (b"allow", b"GET, HEAD"))
        else:
            status, report = await ready() if path == "/readyz" else (200, {"status": "alive"})
            await _send(send, status, report)

    return serve


async def _send(send: Any, status: int, report: Any, *more: tuple[bytes, bytes]) -> None:
    body = json.dumps(report).encode()
    headers = [*HEADERS, (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})  # which the server keeps from a HEAD
