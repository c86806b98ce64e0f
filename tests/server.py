"""Our server, seen from outside: HTTP in, HTTP and log lines out."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")

# One client for all: each would read the machine's certificates anew, which takes longer than most
# requests. A connection is used once all the same.
http = httpx2.Client(verify=False, limits=httpx2.Limits(max_keepalive_connections=0))

NOTHING_ELSE = {"attachments": [], "inference_options": {}}


def create(text: str = "Hello") -> dict[str, Any]:
    return {"type": "threads.create", "params": {"input": message(text)}}


def add(thread_id: str, text: str = "And another thing") -> dict[str, Any]:
    return {"type": "threads.add_user_message", "params": {"thread_id": thread_id, "input": message(text)}}


def operation(kind: str, /, **params: Any) -> dict[str, Any]:
    return {"type": kind, "params": params}


def message(text: str) -> dict[str, Any]:
    return {"content": [{"type": "input_text", "text": text}], **NOTHING_ELSE}


def eventually(look: Callable[[], T], is_right: Callable[[T], bool]) -> T:
    """Look again until it is right; what is still wrong after 15 seconds is an error."""
    limit = time.monotonic() + 15
    while not is_right(seen := look()):
        assert time.monotonic() < limit, seen
        time.sleep(0.05)
    return seen


def arrive_one_by_one(arrivals: list[float], sent: float) -> bool:
    """Whether events came while the answer was made, and were not held back until its end.

    Held back, they would come in a burst that is nothing beside the wait for it, or but for a few of them.
    """
    whole = arrivals[-1] - arrivals[0]
    early = sum(1 for arrival in arrivals if arrival - arrivals[0] < 0.75 * whole)
    return whole > 0.1 * (arrivals[-1] - sent) and len(arrivals) / 4 < early < len(arrivals)


@dataclass
class Api:
    """A running server. ``log``: what it wrote to stdout, one JSON object a line."""

    origin: str
    log: Path

    @property
    def url(self) -> str:
        return f"{self.origin}/support/chatkit"

    def post(self, body: Any, token: str | None = None, **headers: str) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return http.post(self.url, content=content, headers=_headers(token, headers), timeout=30)

    def events(self, body: Any, token: str) -> list[dict[str, Any]]:
        """The whole stream, parsed."""
        with self.stream(body, token) as lines:
            return [event for _, event in lines]

    @contextmanager
    def stream(
        self, body: Any, token: str, **headers: str
    ) -> Iterator[Iterator[tuple[httpx2.Response, dict[str, Any]]]]:
        """The events as they come, each with its response."""
        accept = {"Accept": "text/event-stream"}
        with http.stream(
            "POST", self.url, json=body, headers=_headers(token, accept | headers), timeout=30
        ) as response:
            assert response.status_code == 200, response.read()
            data = (line for line in response.iter_lines() if line.startswith("data: "))
            yield ((response, json.loads(line.removeprefix("data: "))) for line in data)

    def audit_records(self, request_id: str) -> list[dict[str, Any]]:
        lines = (line for line in self.log.read_text().splitlines() if request_id in line)
        return [record for record in map(json.loads, lines) if record["logger"] == "authn.audit"]


def _headers(token: str | None, others: dict[str, str]) -> dict[str, str]:
    names = {name.replace("_", "-"): value for name, value in others.items()}
    request_id = {"X-Request-ID": str(uuid.uuid4())}
    return request_id | ({"Authorization": f"Bearer {token}"} if token else {}) | names
