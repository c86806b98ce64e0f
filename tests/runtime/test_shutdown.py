"""A server that shuts down while its requests hang. It ends in time and leaves nothing half stored."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

from runtime.graceful_shutdown import run_shielded
from runtime.handler import WorkerThreadHandler
from support.models import Attachment
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import (
    PNG,
    announce,
    attachment_row,
    bearer,
    put,
    stored_file_names,
    upload_directly,
)
from tests.fixtures.chatkit import endpoint
from tests.fixtures.conversations import items_of, thread_id_of, types_of
from tests.fixtures.database.concurrent_commits import wait_for_lock
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, create, eventually
from tests.fixtures.servers.tool_server import silent_tool_server

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def half_sent_upload(api: Api, person: Person, attachment_id: str) -> Iterator[socket.socket]:
    """Send the first half of an upload, and yield its open socket."""
    port = int(api.origin.rpartition(":")[2])
    headers = bearer(person) | {"Host": f"localhost:{port}", "Content-Length": str(len(PNG))}
    header_lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(30)
        head = f"PUT /support/attachments/{attachment_id}/upload HTTP/1.1\r\n{header_lines}\r\n"
        connection.sendall(head.encode() + PNG[: len(PNG) // 2])
        yield connection


def test_a_shutdown_ends_in_time_and_leaves_nothing_half_stored(
    start_assistant: Callable[..., Any], api: Api, person: Person, model: Model, database_url: str
) -> None:
    model.will_answer(ending="silence")
    token, files_before, streams, thread_ids = person.token(), stored_file_names(), [], []
    with ExitStack() as left_open, ThreadPoolExecutor(4) as clients:
        servers = json.dumps([{"name": "silent", "url": left_open.enter_context(silent_tool_server())}])
        lock = left_open.enter_context(psycopg.connect(database_url))
        with start_assistant(SUPPORT_MCP_SERVERS=servers) as server:
            # Four requests hang:
            # - an answer waits for the model,
            # - an answer waits for the tool server,
            # - an upload waits for its second half,
            # - an upload waits for the database.
            # ``model_calls``: the number of calls that the model must have got before the test continues.
            for model_calls in (1, 0):
                events = left_open.enter_context(server.stream(create("A story"), token))
                thread_ids.append(next(events)[1]["thread"]["id"])
                streams.append(clients.submit(list, events))
                eventually(lambda: len(model.calls), lambda number: number >= model_calls)  # noqa: B023
            half_sent = announce(server, person).json()
            connection = left_open.enter_context(half_sent_upload(server, person, half_sent["id"]))
            lock.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"attachments of {person.user_id}"]
            )
            blocked = clients.submit(upload_directly, server, person, PNG, "a.png", "image/png")
            wait_for_lock(lock)

            def unblock_during_shutdown() -> None:
                eventually(server.log.read_text, lambda log: "Shutting down" in log)
                lock.commit()

            clients.submit(unblock_during_shutdown)
            shutdown_at = time.monotonic()
        seconds = time.monotonic() - shutdown_at
        response_to_half = connection.recv(1000)

    assert seconds < 9  # after ten seconds the server would have been killed
    failure = {"type": "error", "code": "stream.error", "allow_retry": True}
    assert [stream.result()[-1][1] for stream in streams] == [failure] * 2
    for thread_id in thread_ids:
        assert types_of(items_of(person, thread_id)) == ["user_message", "sdk_hidden_context"]
    assert blocked.result().status_code == 200
    assert len(stored_file_names() - files_before) == 1
    assert attachment_row(blocked.result().json()).size == len(PNG)
    assert b" 200 " not in response_to_half
    assert Attachment.objects.get(attachment_id=half_sent["id"]).file == ""
    assert put(api, person, half_sent["id"], PNG).status_code == 200  # the upload can be repeated


@pytest.mark.parametrize("handler", [WorkerThreadHandler, ASGIHandler])
def test_a_server_without_the_lifespan_protocol_ends_a_stream_when_it_cancels_the_request(
    settings: Any, monkeypatch: pytest.MonkeyPatch, person: Person, handler: type[ASGIHandler]
) -> None:
    # chatbackend.settings does the same for Django's own handler, because its threads end with their request.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    settings.CHATKIT_SERVER = "tests.fixtures.chatkit.servers.SlowServer"

    async def cancel_in_mid_stream() -> list[bytes]:
        request = await endpoint.begin(shielded(handler()), create("until I leave"), person.token())
        await request.receive_output(10)  # the status and the headers
        parts = [b""]
        while b"word" not in parts[-1]:
            parts.append((await request.receive_output(10))["body"])
        request.future.cancel()
        while (message := await request.receive_output(10)).get("more_body"):
            parts.append(message["body"])
        await request.wait(10)
        return parts

    events = events_in(asyncio.run(cancel_in_mid_stream()))

    thread_id = thread_id_of(events[:1])
    assert events[-1] == {"type": "error", "code": "stream.error", "allow_retry": True}
    assert types_of(items_of(person, thread_id)) == [
        "user_message",
        "assistant_message",
        "sdk_hidden_context",
    ]


@pytest.mark.parametrize("handler", [WorkerThreadHandler, ASGIHandler])
def test_a_request_that_is_cancelled_before_its_stream_begins_ends_its_stream_too(
    settings: Any, monkeypatch: pytest.MonkeyPatch, person: Person, handler: type[ASGIHandler]
) -> None:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    settings.CHATKIT_SERVER = "tests.fixtures.chatkit.servers.SlowServer"

    async def cancel_at_once() -> list[bytes]:
        request = await endpoint.begin(shielded(handler()), create("until I leave"), person.token())
        await asyncio.sleep(0)
        request.future.cancel()
        await request.receive_output(10)  # the status and the headers
        parts = []
        while (message := await request.receive_output(10)).get("more_body"):
            parts.append(message["body"])
        await request.wait(10)
        return parts

    events = events_in(asyncio.run(cancel_at_once()))

    assert events[-1]["type"] == "error"


def shielded(handler: ASGIHandler) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await run_shielded(handler(scope, receive, send), scope)

    return application


def events_in(parts: list[bytes]) -> list[Any]:
    lines = b"".join(parts).splitlines()
    return [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]
