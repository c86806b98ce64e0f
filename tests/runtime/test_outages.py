"""A database that fails: 503 within seconds, never a 500, nothing to restart, and what was said is kept."""

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
AT_ONCE = 12  # three for each of the server's threads
TIMEOUT_SECONDS = 2  # of a statement, and of a connection
LONGEST_SECONDS = 15  # on a machine that is busy; eight where it is not


@dataclass
class Stage:
    """A server with a database of its own. ``env``: to start another one beside it."""

    api: Api
    database: Database
    token: str
    env: dict[str, str]

    def ask(self, body: dict[str, Any]) -> tuple[int, float]:
        """The status, and how long it took. 503 counts if it says when to come again, and nothing else."""
        return ask(self.api, body, self.token)

    def ask_at_once(self, *bodies: dict[str, Any]) -> list[tuple[int, float]]:
        with ThreadPoolExecutor(AT_ONCE) as clients:
            return list(clients.map(self.ask, bodies * (AT_ONCE // len(bodies))))

    def is_well(self) -> bool:
        return {status for status, _ in self.ask_at_once(LIST, create())} == {200}


def ask(api: Api, body: dict[str, Any], token: str) -> tuple[int, float]:
    began = time.monotonic()
    answer = api.post(body, token)
    if answer.status_code == 503:
        message = "Service temporarily unavailable"
        assert answer.json() == {"error": message, "status": 503, "message": message}
        assert answer.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
    return answer.status_code, time.monotonic() - began


@pytest.fixture(scope="module")
def stage(
    start_better_auth: Callable[..., Any],
    start_assistant: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Stage]:
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
        yield Stage(api, database, token, env)


def migrate(url: str) -> None:
    ours = connections["default"]
    connections["default"] = ours.copy()
    connections["default"].settings_dict = ours.settings_dict | environ.Env.db_url_config(url)
    connections["default"].settings_dict["ENGINE"] = ours.settings_dict["ENGINE"]
    try:
        call_command("migrate", verbosity=0)
    finally:
        connections["default"].close()
        connections["default"] = ours


# --- Every kind of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faults.stopped, faults.frozen, faults.locked, faults.full])
@pytest.mark.usefixtures("model")
def test_while_it_lasts_everybody_gets_a_503_in_time_and_afterwards_all_is_well(
    stage: Stage, fault: Fault
) -> None:
    assert stage.is_well()

    with fault(stage.database):
        answers = stage.ask_at_once(LIST, create())
        alive = http.get(f"{stage.api.origin}/healthz").status_code

    assert {status for status, _ in answers} == {503}
    assert max(seconds for _, seconds in answers) < LONGEST_SECONDS
    assert alive == 200
    eventually(stage.is_well, bool)


@pytest.mark.parametrize("fault", [faults.read_only, faults.out_of_disk])
@pytest.mark.usefixtures("model")
def test_what_cannot_be_written_is_a_503_and_reading_goes_on(stage: Stage, fault: Fault) -> None:
    with fault(stage.database):
        read = stage.ask_at_once(LIST)
        written = stage.ask_at_once(create())

    assert {status for status, _ in read} == {200}
    assert {status for status, _ in written} == {503}
    assert max(seconds for _, seconds in written) < LONGEST_SECONDS
    eventually(stage.is_well, bool)


@pytest.mark.parametrize("fault", [faults.restarted, faults.suspended, faults.crashed])
@pytest.mark.usefixtures("model")
def test_what_is_over_in_a_moment_is_no_more_than_a_503_or_two(stage: Stage, fault: Fault) -> None:
    assert stage.is_well()
    seen: list[int] = []
    is_over = threading.Event()

    def keep_asking() -> None:
        while not is_over.is_set() or {200} != set(seen[-AT_ONCE:]):
            seen.extend(status for status, _ in stage.ask_at_once(LIST, create()))

    with ThreadPoolExecutor(1) as beside:
        asking = beside.submit(keep_asking)
        try:
            with fault(stage.database):
                pass
        finally:
            is_over.set()
        asking.result()

    assert set(seen) <= {200, 503}


@pytest.mark.usefixtures("model")
def test_a_migration_of_better_auth_s_is_not_noticed_by_statements_prepared_before(stage: Stage) -> None:
    for _ in range(4):  # a statement is prepared when it is asked for the sixth time
        assert stage.is_well()

    with stage.database.connected() as connection:
        connection.execute('ALTER TABLE "user" ALTER COLUMN "name" TYPE varchar(900)')
        connection.execute("ALTER TABLE support_thread ALTER COLUMN thread_id TYPE varchar(900)")
    answers = [stage.ask_at_once(LIST, create()) for _ in range(3)]

    assert {status for each in answers for status, _ in each} == {200}


# --- Streams ---------------------------------------------------------------------------------------


def test_an_answer_that_is_under_way_is_stored_when_the_database_is_back(stage: Stage, model: Model) -> None:
    model.will_answer("Once ", "upon", waits=True)

    with stage.api.stream(create("A story"), stage.token) as stream:
        seen = [next(stream)[1]]
        # Not the call for a title, which is made beside it: until then the history is still being read.
        eventually(lambda: [call for call in model.calls if call.body.get("stream")], bool)
        with faults.stopped(stage.database):
            model.may_go_on.set()
            missed = {stage.ask(LIST)[0] for _ in range(20)}  # the answer is there meanwhile
        seen += [event for _, event in stream]

    assert missed == {503}
    assert events_of_type(seen, "error") == []
    assert said(stage, thread_id_of(seen)) == ["A story", "Once upon"]


def said(stage: Stage, thread_id: str) -> list[str]:
    """What a page shows that is loaded again."""
    answer = stage.api.post(operation("items.list", thread_id=thread_id, order="asc"), stage.token)
    return [item["content"][0]["text"] for item in answer.json()["data"]]


def test_words_of_a_client_that_left_meanwhile_are_stored_too(stage: Stage, model: Model) -> None:
    model.will_answer("Once ", "upon", ending="silence")
    with stage.api.stream(create("A story"), stage.token) as stream:
        seen = []
        while "upon" not in deltas_of(seen):
            seen.append(next(stream)[1])
        stage.database.stop()
    assert model.calls[0].abandoned.wait(10)

    stage.database.start()

    eventually(
        lambda: said_or_nothing(stage, thread_id_of(seen)), lambda words: words == ["A story", "Once upon"]
    )
    model.will_answer("a time")
    assert deltas_of(stage.api.events(add(thread_id_of(seen)), stage.token)) == ["a time"]


def said_or_nothing(stage: Stage, thread_id: str) -> list[str]:
    return said(stage, thread_id) if stage.ask(LIST)[0] == 200 else []


@pytest.mark.django_db(transaction=True)
def test_a_database_that_stays_away_is_told_in_the_stream_after_a_while(
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

    async def listen() -> list[bytes]:
        response = (await streaming.start(answer(), "a-user")).response()
        return [event async for event in response]  # type: ignore[union-attr]

    _, last = asyncio.run(listen())

    assert b'"type":"error"' in last
    assert b'"allow_retry":true' in last
    assert len(tries) > 1


# --- A start and an end meanwhile ------------------------------------------------------------------


def test_a_server_starts_and_ends_while_its_database_is_frozen(
    stage: Stage, start_assistant: Callable[..., Any]
) -> None:
    with faults.frozen(stage.database), ThreadPoolExecutor(AT_ONCE) as clients, ExitStack() as running:
        began = time.monotonic()
        api = running.enter_context(start_assistant(**stage.env))
        ready = httpx2.get(f"{api.origin}/readyz", verify=False).status_code
        waiting = [clients.submit(ask, api, LIST, stage.token) for _ in range(AT_ONCE)]
        statuses = [each.result()[0] for each in waiting]
        asked_to_end = time.monotonic()
        running.close()
        ended = time.monotonic()

    assert ready == 503
    assert set(statuses) == {503}
    assert asked_to_end - began < 4 * LONGEST_SECONDS
    assert ended - asked_to_end < 9  # after ten seconds it would have been killed
    eventually(stage.is_well, bool)
