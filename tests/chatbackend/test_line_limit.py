"""The limit on log lines that callers without a token can cause."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from chatbackend.logs import line_limit
from chatbackend.logs.line_limit import LINES, PER_SECONDS, LineLimit
from tests.fixtures.clock import Clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().replace_in(monkeypatch, line_limit)


@pytest.fixture
def log(clock: Clock) -> Iterator[io.StringIO]:
    """The output of the project's handler. Its time interval has just started."""
    [handler] = [each for each in logging.getLogger().handlers if each.name == "stdout"]
    assert isinstance(handler, logging.StreamHandler)
    [limit] = [each for each in handler.filters if isinstance(each, LineLimit)]
    limit._started_at = clock.now - PER_SECONDS
    stream = handler.setStream(io.StringIO())
    yield handler.stream
    handler.setStream(stream)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


REQUESTS: dict[str, Any] = {
    "unknown paths": lambda client, number: client.get(f"/nowhere-{number}"),
    "unknown hosts": lambda client, number: client.get("/admin/", HTTP_HOST=f"{number}.evil.example"),
    "bad addresses": lambda client, number: client.get(
        f"/support/attachments/atc_1/content?signature={number}"
    ),
}


@pytest.mark.parametrize("ask", REQUESTS.values(), ids=REQUESTS)
def test_requests_without_a_token_cause_a_limited_number_of_log_lines(
    client: Client, log: io.StringIO, clock: Clock, ask: Any
) -> None:
    for number in range(LINES + 20):
        ask(client, number)

    written = lines(log)
    assert len(written) == LINES + 1
    assert written[-1]["message"] == "Too many such lines: the others of this minute are dropped"

    clock.now += PER_SECONDS
    ask(client, 0)
    assert len(lines(log)) == LINES + 2


def test_other_log_lines_are_not_limited(client: Client, log: io.StringIO) -> None:
    for number in range(LINES + 20):
        client.get(f"/nowhere-{number}")
    ours = [
        ("django.request", logging.ERROR),
        ("authn.audit", logging.INFO),
        ("support.views", logging.WARNING),
        ("uvicorn.error", logging.INFO),  # the start and stop of the server
        ("uvicorn.error", logging.ERROR),
    ]

    for name, level in ours:
        logging.getLogger(name).log(level, "ours")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("django.security.TooManyFieldsSent").error("theirs")

    assert [line["message"] for line in lines(log)[LINES + 1 :]] == ["ours"] * len(ours)
