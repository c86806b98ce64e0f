"""Answers a load balancer's probes: /healthz (is the process alive?) and /readyz (should it get requests?).

Django does not see these requests, for two reasons:

- A probe sends an IP address as the host, and plain http. Django would answer 400 because of ALLOWED_HOSTS,
  or 301 because of SECURE_SSL_REDIRECT.
- A process whose worker threads are all busy is still alive, and must answer.

/support/health is another URL, which Django does answer: see support/views.py.
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
    """Return an ASGI application that answers /healthz and /readyz, and passes other requests on."""
    readiness = Readiness()

    async def ready() -> tuple[int, Any]:
        checks = await readiness.checks()
        if all(result == "ok" for result in checks.values()):
            return 200, {"status": "ready", "checks": checks}
        return 503, {"status": "unavailable", "checks": checks}

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        # With uvicorn's --root-path, every path begins with the root path.
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if path not in ("/healthz", "/readyz"):
            await application(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, {"status": "method not allowed"}, (b"allow", b"GET, HEAD"))
        else:
            status, report = await ready() if path == "/readyz" else (200, {"status": "alive"})
            await _send(send, status, report)

    return serve


async def _send(send: Any, status: int, report: Any, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(report).encode()
    headers = (*HEADERS, (b"content-length", str(len(body)).encode()), *headers)
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})  # the ASGI server drops the body for HEAD
