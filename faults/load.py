"""Clients that continue in spite of all errors. Some list threads, others chat. All answers are recorded."""

import json
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse

from benchmarks.measuring.client import create

TIMEOUT_SECONDS = 60.0
PAUSE_SECONDS = 0.2  # after a failed request; a real page waits longer
LIST = '{"type": "threads.list", "params": {"limit": 20}}'
CHAT = create(deltas=5, seconds=1)
ERROR_KEYS = {"error", "status", "message"}


@dataclass
class Answer:
    """``wait``: seconds until the response began. ``silence``: the longest pause in a stream, in seconds.

    ``stored``: ids of items that the stream reported as done.
    """

    began: float  # time.monotonic(), like ``ended``
    ended: float = 0.0
    status: int = 0
    wait: float = 0.0
    silence: float = 0.0
    served: bool = False
    as_specified: bool = False
    stored: set[str] = field(default_factory=set)
    fault: str = ""


class Load:
    def __init__(self, port: int, credentials: list[str], readers: int = 8, chatters: int = 8) -> None:
        self.port, self.credentials = port, credentials
        self.answers: list[Answer] = []
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(readers + chatters)
        bodies = [LIST] * readers + [CHAT] * chatters
        self._clients: list[Future[None]] = [self._pool.submit(self._run, body) for body in bodies]

    def stop(self) -> list[Answer]:
        self._stopped.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()
        return self.answers

    def _run(self, body: str) -> None:
        while not self._stopped.is_set():
            answer = ask(self.port, body, random.choice(self.credentials))
            self.answers.append(answer)
            if not answer.served:
                self._stopped.wait(PAUSE_SECONDS)


def ask(port: int, body: str, credential: str) -> Answer:
    name, _, value = credential.partition(": ")
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    answer = Answer(time.monotonic())
    try:
        connection.request(
            "POST", "/support/chatkit", body, {name: value, "Content-Type": "application/json"}
        )
        response = connection.getresponse()
        answer.status, answer.wait = response.status, time.monotonic() - answer.began
        if response.status == 200 and body is not LIST:
            _read_stream(response, answer)
        else:
            _read(response, answer)
    except (OSError, HTTPException, ValueError) as exc:
        answer.fault = f"{type(exc).__name__}: {exc}"
    finally:
        connection.close()
    answer.ended = time.monotonic()
    answer.wait = answer.wait or answer.ended - answer.began  # no response began
    return answer


def _read(response: HTTPResponse, answer: Answer) -> None:
    body = json.loads(response.read())
    answer.served = response.status == 200 and "data" in body
    has_retry_after = int(response.headers.get("Retry-After", 0)) > 0
    answer.as_specified = answer.served or (
        response.status == 503 and has_retry_after and set(body) == ERROR_KEYS
    )
    if not answer.as_specified:
        answer.fault = f"status {response.status}"


def _read_stream(response: HTTPResponse, answer: Answer) -> None:
    last_event_at, event = time.monotonic(), {}
    for line in response:
        if not line.startswith(b"data: "):
            continue
        now, event = time.monotonic(), json.loads(line[6:])
        answer.silence, last_event_at = max(answer.silence, now - last_event_at), now
        if event["type"] == "thread.item.done":
            answer.stored.add(event["item"]["id"])
            answer.served = event["item"]["type"] == "assistant_message"
    answer.as_specified = answer.served or event.get("type") == "error"
    if not answer.as_specified:
        answer.fault = "the stream ended without a final event"
