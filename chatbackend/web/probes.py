"""Answers a load balancer's probes: /healthz (is the process alive?) and /readyz (should it get requests?).

Django does not see these requests, for two reasons:

- A probe sends an IP address as the host, and plain http. Django would answer 400 because of ALLOWED_HOSTS,
  or 301 because of SECURE_SSL_REDIRECT.
- A process whose worker threads are all busy is still alive, and must answer.

/support/health is another URL, which Django does answer: see support/views.py.
"""

import json
from typing import Any

from chatbackend.web.readiness import Readiness

PATHS = ("/healthz", "/readyz")

HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


def is_probe(scope: Any) -> bool:
    # With uvicorn's --root-path, every path begins with the root path.
    path = scope["path"]
    return path.endswith(PATHS) and path.removeprefix(scope.get("root_path", "")) in PATHS


class Probes:
    """An ASGI application for the requests that ``is_probe`` recognizes."""

    def __init__(self) -> None:
        self._readiness = Readiness()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, {"status": "method not allowed"}, (b"allow", b"GET, HEAD"))
        elif scope["path"].endswith("/healthz"):
            await _send(send, 200, {"status": "alive"})
        else:
            checks = await self._readiness.checks()
            is_ready = all(result == "ok" for result in checks.values())
            status, word = (200, "ready") if is_ready else (503, "unavailable")
            await _send(send, status, {"status": word, "checks": checks})


async def _send(send: Any, status: int, report: Any, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(report).encode()
    headers = (*HEADERS, (b"content-length", str(len(body)).encode()), *headers)
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})  # the ASGI server drops the body for HEAD
