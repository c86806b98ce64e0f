"""Outages of the database. Clients get 503 within seconds and never 500, and partial answers are stored.

After an outage, the server works again without a restart.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import environ
import httpx2
import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from pytest_django import DjangoDbBlocker

from authn.responses import RETRY_AFTER_SECONDS
from faults import database as faults
from faults.database import Database, Fault
from runtime import database_calls
from runtime.database_calls import retry_on_outage
from support.chat import streaming
from tests.fixtures.conversations import deltas_of, events_of_type, thread_id_of
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, eventually, http, operation

LIST = operation("threads.list")
CLIENTS = 12  # three for each of the server's worker threads
TIMEOUT_SECONDS = 2  # DATABASE_TIMEOUT_SECONDS of the server
MAX_SECONDS = 15  # for a response; a machine that is not busy needs eight


@dataclass
class Deployment:
    """A server with its own database. ``env``: environment variables to start a second server."""

    api: Api
    database: Database
    token: str
    env: dict[str, str]

    def post(self, body: dict[str, Any]) -> tuple[int, float]:
        """Send a request. Return the status and the seconds. Check the body and Retry-After of a 503."""
        return post(self.api, body, self.token)

    def post_at_once(self, *bodies: dict[str, Any]) -> list[tuple[int, float]]:
        with ThreadPoolExecutor(CLIENTS) as clients:
            return list(clients.map(self.post, bodies * (CLIENTS // len(bodies))))

    def is_available(self) -> bool:
        return {status for status, _ in self.post_at_once(LIST, create())} == {200}


def post(api: Api, body: dict[str, Any], token: str) -> tuple[int, float]:
    begun_at = time.monotonic()
    response = api.post(body, token)
    if response.status_code == 503:
        message = "Service temporarily unavailable"
        assert response.json() == {"error": message, "status": 503, "message": message}
        assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
    return response.status_code, time.monotonic() - begun_at


@pytest.fixture(scope="module")
def deployment(
    start_better_auth: Callable[..., Any],
    start_assistant: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Deployment]:
    with ExitStack() as running:
        database = running.enter_context(faults.database(tmp_path_factory.mktemp("outages")))
        with django_db_blocker.unblock():
            migrate(database.url)
        with start_better_auth(DATABASE_URL=database.url) as auth:
            token = auth.sign_up().token()
        env = {
            "DATABASE_URL": database.url,
            "DATABASE_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "BETTER_AUTH_URL": auth.origin,
            "SUPPORT_TITLE_MODEL": "",
        }
        api = running.enter_context(start_assistant(**env))
        yield Deployment(api, database, token, env)


def migrate(url: str) -> None:
    test_database = connections["default"]
    connections["default"] = test_database.copy()
    connections["default"].settings_dict = test_database.settings_dict | environ.Env.db_url_config(url)
    connections["default"].settings_dict["ENGINE"] = test_database.settings_dict["ENGINE"]
    try:
        call_command("migrate", verbosity=0)
    finally:
        connections["default"].close()
        connections["default"] = test_database


# --- Kinds of outages ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faults.stopped, faults.frozen, faults.locked, faults.full])
@pytest.mark.usefixtures("model")
def test_requests_get_a_503_during_an_outage_and_a_200_afterwards(
    deployment: Deployment, fault: Fault
) -> None:
    assert deployment.is_available()

    with fault(deployment.database):
        responses = deployment.post_at_once(LIST, create())
        healthz = http.get(f"{deployment.api.origin}/healthz").status_code

    assert {status for status, _ in responses} == {503}
    assert max(seconds for _, seconds in responses) < MAX_SECONDS
    assert healthz == 200
    eventually(deployment.is_available, bool)


@pytest.mark.parametrize("fault", [faults.read_only, faults.out_of_disk])
@pytest.mark.usefixtures("model")
def test_a_database_that_cannot_write_gives_503_for_writes_and_still_reads(
    deployment: Deployment, fault: Fault
) -> None:
    with fault(deployment.database):
        read = deployment.post_at_once(LIST)
        written = deployment.post_at_once(create())

    assert {status for status, _ in read} == {200}
    assert {status for status, _ in written} == {503}
    assert max(seconds for _, seconds in written) < MAX_SECONDS
    eventually(deployment.is_available, bool)


@pytest.mark.parametrize("fault", [faults.restarted, faults.suspended, faults.crashed])
@pytest.mark.usefixtures("model")
def test_a_short_outage_gives_no_status_other_than_200_and_503(deployment: Deployment, fault: Fault) -> None:
    assert deployment.is_available()
    seen: list[int] = []
    is_over = threading.Event()

    def post_repeatedly() -> None:
        while not is_over.is_set() or {200} != set(seen[-CLIENTS:]):
            seen.extend(status for status, _ in deployment.post_at_once(LIST, create()))

    with ThreadPoolExecutor(1) as thread:
        posting = thread.submit(post_repeatedly)
        try:
            with fault(deployment.database):
                pass
        finally:
            is_over.set()
        posting.result()

    assert set(seen) <= {200, 503}


@pytest.mark.usefixtures("model")
def test_a_migration_does_not_break_statements_that_were_prepared_before(deployment: Deployment) -> None:
    for _ in range(4):  # psycopg prepares a statement when it runs for the sixth time
        assert deployment.is_available()

    with deployment.database.connected() as connection:
        connection.execute('ALTER TABLE "user" ALTER COLUMN "name" TYPE varchar(900)')
        connection.execute("ALTER TABLE support_thread ALTER COLUMN thread_id TYPE varchar(900)")
    responses = [deployment.post_at_once(LIST, create()) for _ in range(3)]

    assert {status for group in responses for status, _ in group} == {200}


# --- Streams ---------------------------------------------------------------------------------------


def test_a_running_answer_is_stored_when_the_database_is_available_again(
    deployment: Deployment, model: Model
) -> None:
    model.will_answer("Once ", "upon", waits=True)

    with deployment.api.stream(create("A story"), deployment.token) as stream:
        seen = [next(stream)[1]]
        # Wait until the model is called for the answer, because the history is read from the database before.
        # The call for the title comes at the same time, but without "stream" in its body.
        eventually(lambda: [call for call in model.calls if call.body.get("stream")], bool)
        with faults.stopped(deployment.database):
            model.may_go_on.set()
            statuses = {deployment.post(LIST)[0] for _ in range(20)}  # meanwhile the model ends its answer
        seen += [event for _, event in stream]

    assert statuses == {503}
    assert events_of_type(seen, "error") == []
    assert stored_texts(deployment, thread_id_of(seen)) == ["A story", "Once upon"]


def stored_texts(deployment: Deployment, thread_id: str) -> list[str]:
    """Return the texts that a page shows after it has been loaded again."""
    response = deployment.api.post(
        operation("items.list", thread_id=thread_id, order="asc"), deployment.token
    )
    return [item["content"][0]["text"] for item in response.json()["data"]]


def test_the_partial_answer_to_a_client_that_left_during_an_outage_is_stored(
    deployment: Deployment, model: Model
) -> None:
    model.will_answer("Once ", "upon", ending="silence")
    with deployment.api.stream(create("A story"), deployment.token) as stream:
        seen = []
        while "upon" not in deltas_of(seen):
            seen.append(next(stream)[1])
        deployment.database.stop()
    assert model.calls[0].abandoned.wait(10)

    deployment.database.start()

    eventually(
        lambda: stored_texts_or_none(deployment, thread_id_of(seen)),
        lambda texts: texts == ["A story", "Once upon"],
    )
    model.will_answer("a time")
    assert deltas_of(deployment.api.events(add(thread_id_of(seen)), deployment.token)) == ["a time"]


def stored_texts_or_none(deployment: Deployment, thread_id: str) -> list[str] | None:
    """Return ``None`` while the server does not answer."""
    return stored_texts(deployment, thread_id) if deployment.post(LIST)[0] == 200 else None


@pytest.mark.django_db(transaction=True)
def test_a_stream_ends_with_an_error_if_the_outage_lasts_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_calls, "RETRY_FOR_SECONDS", 0.05)
    monkeypatch.setattr(database_calls, "RETRY_EVERY_SECONDS", 0.01)
    tries = []

    @retry_on_outage
    def store() -> None:
        tries.append(time.monotonic())
        raise OperationalError("the server does not answer")

    async def answer() -> Any:
        yield b"data: {}\n\n"
        await store()

    async def read_stream() -> list[bytes]:
        response = (await streaming.start(answer(), "a-user")).response()
        return [event async for event in response]  # type: ignore[union-attr]

    _, last = asyncio.run(read_stream())

    assert b'"type":"error"' in last
    assert b'"allow_retry":true' in last
    assert len(tries) > 1


# --- A start and a shutdown during an outage -------------------------------------------------------


def test_a_server_starts_and_shuts_down_while_its_database_is_frozen(
    deployment: Deployment, start_assistant: Callable[..., Any]
) -> None:
    with faults.frozen(deployment.database), ThreadPoolExecutor(CLIENTS) as clients, ExitStack() as running:
        start_at = time.monotonic()
        api = running.enter_context(start_assistant(**deployment.env))
        ready = httpx2.get(f"{api.origin}/readyz", verify=False).status_code
        waiting = [clients.submit(post, api, LIST, deployment.token) for _ in range(CLIENTS)]
        statuses = [request.result()[0] for request in waiting]
        shutdown_at = time.monotonic()
        running.close()
        ended_at = time.monotonic()

    assert ready == 503
    assert set(statuses) == {503}
    assert shutdown_at - start_at < 4 * MAX_SECONDS
    assert ended_at - shutdown_at < 9  # after ten seconds the server would have been killed
    eventually(deployment.is_available, bool)
