"""A server that is told to end while all that it waits for hangs: in time, and with nothing half done."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

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
from tests.fixtures.conversations import items_of, types_of
from tests.fixtures.database.concurrent_commits import wait_for_lock
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, create, eventually
from tests.fixtures.servers.tool_server import silent_tool_server

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def half_sent(api: Api, person: Person, attachment_id: str) -> Iterator[socket.socket]:
    """An upload of which the rest does not come."""
    port = int(api.origin.rpartition(":")[2])
    headers = bearer(person) | {"Host": f"localhost:{port}", "Content-Length": str(len(PNG))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.settimeout(30)
        head = f"PUT /support/attachments/{attachment_id}/upload HTTP/1.1\r\n{lines}\r\n"
        line.sendall(head.encode() + PNG[: len(PNG) // 2])
        yield line


def test_a_server_that_is_told_to_end_ends_in_time_with_nothing_half_done(
    start_assistant: Callable[..., Any], api: Api, person: Person, model: Model, database_url: str
) -> None:
    model.will_answer(ending="silence")
    token, before, endings, threads = person.token(), stored_file_names(), [], []
    with ExitStack() as left_open, ThreadPoolExecutor(4) as clients:
        servers = json.dumps([{"name": "silent", "url": left_open.enter_context(silent_tool_server())}])
        lock = left_open.enter_context(psycopg.connect(database_url))
        with start_assistant(SUPPORT_MCP_SERVERS=servers) as ending:
            # One answer waits for the model, and one for the tools' server; one upload for its other half,
            # and one for the database.
            for calls in (1, 0):
                events = left_open.enter_context(ending.stream(create("A story"), token))
                threads.append(next(events)[1]["thread"]["id"])
                endings.append(clients.submit(list, events))
                eventually(lambda: len(model.calls), lambda made: made >= calls)  # noqa: B023
            broken_off = announce(ending, person).json()
            line = left_open.enter_context(half_sent(ending, person, broken_off["id"]))
            lock.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"attachments of {person.user_id}"]
            )
            late = clients.submit(upload_directly, ending, person, PNG, "a.png", "image/png")
            wait_for_lock(lock)

            def let_it_in() -> None:
                eventually(ending.log.read_text, lambda said: "Shutting down" in said)
                lock.commit()

            clients.submit(let_it_in)
            told_at = time.monotonic()
        took = time.monotonic() - told_at
        heard = line.recv(1000)

    assert took < 9  # after ten seconds it would have been killed
    failure = {"type": "error", "code": "stream.error", "allow_retry": True}
    assert [each.result()[-1][1] for each in endings] == [failure] * 2
    for thread_id in threads:
        assert types_of(items_of(person, thread_id)) == ["user_message", "sdk_hidden_context"]
    assert late.result().status_code == 200
    assert len(stored_file_names() - before) == 1
    assert attachment_row(late.result().json()).size == len(PNG)
    assert b" 200 " not in heard
    assert Attachment.objects.get(attachment_id=broken_off["id"]).file == ""
    assert put(api, person, broken_off["id"], PNG).status_code == 200  # and what was not done can be done
