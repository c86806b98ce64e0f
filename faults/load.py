"""Clients that go on whatever happens: some look at their chats, some chat. What each was told is kept."""

import json
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse

from benchmarks.measuring.client import create

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.2  # after what was not served; a page waits for longer
LIST = '{"type": "threads.list", "params": {"limit": 20}}'
CHAT = create(deltas=5, seconds=1)
UNAVAILABLE = {"error", "status", "message"}


@dataclass
class Answer:
    """``wait``: until there was one. ``silence``: the longest in it. ``kept``: items said to be stored."""

    began: float  # moments of time.monotonic()
    ended: float = 0.0
    status: int = 0
    wait: float = 0.0
    silence: float = 0.0
    served: bool = False
    as_specified: bool = False
    kept: set[str] = field(default_factory=set)
    fault: str = ""


class Load:
    def __init__(self, port: int, credentials: list[str], readers: int = 8, chatters: int = 8) -> None:
        self.port, self.credentials = port, credentials
        self.answers: list[Answer] = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(readers + chatters)
        bodies = [LIST] * readers + [CHAT] * chatters
        self._clients: list[Future[None]] = [self._pool.submit(self._go_on, body) for body in bodies]

    def stop(self) -> list[Answer]:
        self._over.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()
        return self.answers

    def _go_on(self, body: str) -> None:
        while not self._over.is_set():
            answer = ask(self.port, body, random.choice(self.credentials))
            self.answers.append(answer)
            if not answer.served:
                self._over.wait(PAUSE_SECONDS)


def ask(port: int, body: str, credential: str) -> Answer:
    name, _, value = credential.partition(": ")
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    answer = Answer(time.monotonic())
    try:
        connection.request(
            "POST", "/support/chatkit", body, {name: value, "Content-Type": "application/json"}
        )
        response = connection.getresponse()
        answer.status, answer.wait = response.status, time.monotonic() - answer.began
        if response.status == 200 and body is not LIST:
            _listen(response, answer)
        else:
            _read(response, answer)
    except (OSError, HTTPException, ValueError) as exc:
        answer.fault = f"{type(exc).__name__}: {exc}"
    finally:
        connection.close()
    answer.ended = time.monotonic()
    answer.wait = answer.wait or answer.ended - answer.began  # there was none
    return answer


def _read(response: HTTPResponse, answer: Answer) -> None:
    body = json.loads(response.read())
    answer.served = response.status == 200 and "data" in body
    told_when = int(response.headers.get("Retry-After", 0)) > 0
    answer.as_specified = answer.served or (response.status == 503 and told_when and set(body) == UNAVAILABLE)
    if not answer.as_specified:
        answer.fault = f"status {response.status}"


def _listen(response: HTTPResponse, answer: Answer) -> None:
    heard, last = time.monotonic(), {}
    for line in response:
        if not line.startswith(b"data: "):
            continue
        now, last = time.monotonic(), json.loads(line[6:])
        answer.silence, heard = max(answer.silence, now - heard), now
        if last["type"] == "thread.item.done":
            answer.kept.add(last["item"]["id"])
            answer.served = last["item"]["type"] == "assistant_message"
    answer.as_specified = answer.served or last.get("type") == "error"
    if not answer.as_specified:
        answer.fault = "a stream without an end"
