"""Our ASGI application, asked in this process; and what is true of each of its answers."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from chatbackend.web.body_limit import limited
from tests.fuzz.cases import MARK, Case

# What Python and those we use say of themselves when something breaks.
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
NOT_SUPPORTED = 501  # dictation without a model for it, and actions of widgets, of which our server has none


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    seconds: float
    log: str = ""


class Client(logging.Handler):
    """Also what hears the log, as production writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.application = limited(import_string(settings.ASGI_HANDLER)())
        formatter = settings.LOGGING["formatters"]["json"] | {}
        self.setFormatter(import_string(formatter.pop("()"))(**formatter))
        self.lines: list[str] = []
        self.runner = asyncio.Runner()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> "Client":
        root = logging.getLogger()  # alone: pytest's own handler keeps whatever it hears
        self.others, root.handlers = root.handlers, [self]
        return self

    def __exit__(self, *_: Any) -> None:
        logging.getLogger().handlers = self.others
        self.runner.close()

    def ask(self, *cases: Case) -> list[Answer]:
        """All at once. What the log says meanwhile is about any of them."""
        self.lines.clear()
        answers = self.runner.run(self._ask_all(cases))
        for answer in answers:
            answer.log = "\n".join(self.lines)
        return answers

    async def _ask_all(self, cases: Sequence[Case]) -> list[Answer]:
        return await asyncio.gather(*map(self._ask, cases))

    async def _ask(self, case: Case) -> Answer:
        begun = time.perf_counter()
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
        left = asyncio.Event()

        async def receive() -> Any:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        start, *rest = sent
        body = b"".join(message.get("body", b"") for message in rest)
        return Answer(start["status"], [*start["headers"]], body, time.perf_counter() - begun)


def check_answer(case: Case, answer: Answer) -> None:
    """Raises ``AssertionError`` for what must not be, whatever was asked."""
    said = answer.body + b"\n".join(
        value for name, value in answer.headers if name.lower() != b"x-request-id"
    )
    assert answer.status < 500 or answer.status == NOT_SUPPORTED, answer
    errors = [line for line in answer.log.splitlines() if '"level": "ERROR"' in line]
    assert not [line for line in errors if "Not Implemented" not in line], errors
    assert '"exc_info"' not in answer.log, answer.log
    if answer.status >= 400:
        assert MARK.encode() not in said, answer
        assert not [word for word in EXCEPTION_TEXTS if word in answer.body], answer
        if case.path.startswith("/support/") and case.method != "HEAD":
            told = json.loads(answer.body)
            assert told == {"error": told["message"], "status": answer.status, "message": told["message"]}
    for secret in case.secrets:
        assert secret not in answer.log, (secret, answer.log)
        assert secret.encode(errors="surrogatepass") not in said
