"""A client of our ASGI application in this process, and the checks for each of its answers."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from runtime.body_limit import limited
from support.asgi import longest_body
from tests.fuzz.cases import MARK, Case

# Texts of Python's and our libraries' errors. No answer may contain them.
EXCEPTION_TEXTS = (
    b"Traceback",
    b'File "',
    b"Exception",
    b"Error(",
    b"psycopg",
    b"pydantic",
    b"django.",
    b"DETAIL",
)
NOT_SUPPORTED = 501  # dictation without a model, and widget actions, which our server does not support


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    seconds: float
    log: str = ""


class Client(logging.Handler):
    """Sends requests, and records the log lines in production's format."""

    def __init__(self) -> None:
        super().__init__()
        self.application = limited(import_string(settings.ASGI_HANDLER)(), longest_body)
        formatter = settings.LOGGING["formatters"]["json"] | {}
        self.setFormatter(import_string(formatter.pop("()"))(**formatter))
        self.lines: list[str] = []
        self.runner = asyncio.Runner()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> "Client":
        root = logging.getLogger()  # the only handler, because pytest's keeps all records
        self.others, root.handlers = root.handlers, [self]
        return self

    def __exit__(self, *_: Any) -> None:
        logging.getLogger().handlers = self.others
        self.runner.close()

    def ask(self, *cases: Case) -> list[Answer]:
        """Send all requests in parallel. Each answer gets the log lines of all of them."""
        self.lines.clear()
        answers = self.runner.run(self._ask_all(cases))
        for answer in answers:
            answer.log = "\n".join(self.lines)
        return answers

    async def _ask_all(self, cases: Sequence[Case]) -> list[Answer]:
        return await asyncio.gather(*map(self._ask, cases))

    async def _ask(self, case: Case) -> Answer:
        started_at = time.perf_counter()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": case.method,
            "scheme": "https",
            "path": case.path,
            "raw_path": case.path.encode(errors="replace"),
            "root_path": "",
            "query_string": case.query,
            "headers": [(b"host", b"testserver"), *case.headers],
            "client": ("192.0.2.7", 50000),
            "server": ("testserver", 443),
        }
        parts = [*case.body] or [b""]
        sent: list[Any] = []
        disconnected = asyncio.Event()

        async def receive() -> Any:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await disconnected.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        start, *rest = sent
        body = b"".join(message.get("body", b"") for message in rest)
        return Answer(start["status"], [*start["headers"]], body, time.perf_counter() - started_at)


def check_answer(case: Case, answer: Answer) -> None:
    """Raises ``AssertionError`` if the answer or the log breaks a rule that holds for every request."""
    content = answer.body + b"\n".join(
        value for name, value in answer.headers if name.lower() != b"x-request-id"
    )
    assert answer.status < 500 or answer.status == NOT_SUPPORTED, answer
    errors = [line for line in answer.log.splitlines() if '"level": "ERROR"' in line]
    assert not [line for line in errors if "Not Implemented" not in line], errors
    assert '"exc_info"' not in answer.log, answer.log
    if answer.status >= 400:
        assert MARK.encode() not in content, answer
        assert not [word for word in EXCEPTION_TEXTS if word in answer.body], answer
        if case.path.startswith("/support/") and case.method != "HEAD":
            error = json.loads(answer.body)
            assert error == {"error": error["message"], "status": answer.status, "message": error["message"]}
    for secret in case.secrets:
        assert secret not in answer.log, (secret, answer.log)
        assert secret.encode(errors="surrogatepass") not in content
