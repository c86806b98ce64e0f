"""If a request ends before its message is stored, the client can send it again and nothing else remains."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command

from support.models import Attachment, Item, Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import (
    NOT_FOUND,
    PNG,
    attach,
    attachment_row,
    items_of,
    message_request,
    send,
    stored_file_names,
)
from tests.fixtures.database.concurrent_commits import wait_for_lock
from tests.fixtures.servers.api import Api, create, eventually, http, operation

pytestmark = pytest.mark.django_db(transaction=True)

# In the order in which the server writes. A lock on one of them stops the server before that write.
TABLES = ["support_thread", "support_attachment", "support_item"]


@contextmanager
def locked(database_url: str, table: str) -> Iterator[Any]:
    """During the block, no other connection can write to the table."""
    with psycopg.connect(database_url) as connection:
        connection.execute(f"LOCK TABLE {table} IN SHARE MODE")
        yield connection


def disconnect_during_write(
    api: Api, person: Person, body: dict[str, Any], database_url: str, table: str
) -> None:
    """Send the request, and close the connection while the server waits to write to the table."""
    content, token = json.dumps(body).encode(), person.token()
    head = (
        f"POST /support/chatkit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with locked(database_url, table) as connection:
        with socket.create_connection(("localhost", int(api.origin.rpartition(":")[2]))) as client:
            client.sendall(head.encode() + content)
            wait_for_lock(connection)
        # After this answer, the server's event loop has seen the disconnect.
        assert api.post(operation("threads.list"), token).status_code == 200


def threads_of(person: Person) -> list[Thread]:
    return list(Thread.objects.owned_by(person.user_id).order_by("id"))


@pytest.mark.parametrize("table", TABLES)
def test_a_message_with_a_file_can_be_sent_again_after_a_disconnect_at_any_write(
    api: Api, person: Person, database_url: str, table: str
) -> None:
    attachment = attach(api, person)
    disconnect_during_write(api, person, message_request(attachment["id"]), database_url, table)

    thread_id = send(api, person, attachment["id"])

    assert [part["id"] for part in items_of(api, person, thread_id)[0]["attachments"]] == [attachment["id"]]
    assert http.get(attachment["preview_url"]).content == PNG


@pytest.mark.parametrize(("table", "files"), [(TABLES[0], 1), (TABLES[1], 2)])
def test_a_disconnect_before_the_message_is_stored_leaves_no_thread(
    api: Api, person: Person, database_url: str, table: str, files: int
) -> None:
    attachments = [attach(api, person) for _ in range(files)]
    body = message_request(*(attachment["id"] for attachment in attachments))
    logged_before = len(api.log.read_text())

    disconnect_during_write(api, person, body, database_url, table)

    eventually(lambda: threads_of(person), lambda threads: threads == [])
    assert [attachment_row(attachment).thread for attachment in attachments] == [None] * files
    assert "Traceback" not in api.log.read_text()[logged_before:]


def test_a_disconnect_after_the_message_is_stored_keeps_the_thread_and_its_file(
    api: Api, person: Person, database_url: str
) -> None:
    attachment = attach(api, person)

    disconnect_during_write(api, person, message_request(attachment["id"]), database_url, "support_item")

    eventually(lambda: Item.objects.owned_by(person.user_id).count(), lambda count: count == 1)
    (thread,) = threads_of(person)
    assert attachment_row(attachment).thread == thread


def test_a_disconnect_while_a_message_without_files_is_stored_leaves_no_empty_thread(
    api: Api, person: Person, database_url: str
) -> None:
    disconnect_during_write(api, person, create(), database_url, "support_thread")

    messages = Item.objects.owned_by(person.user_id).filter(type="user_message")
    eventually(lambda: messages.count(), lambda count: count == 1)
    assert len(threads_of(person)) == 1


def test_the_file_of_a_message_that_was_not_stored_is_released(
    api: Api, person: Person, database_url: str
) -> None:
    attachment, thread_id = attach(api, person), send(api, person)
    body = message_request(attachment["id"], thread_id=thread_id)

    disconnect_during_write(api, person, body, database_url, "support_attachment")

    eventually(lambda: attachment_row(attachment).thread, lambda thread: thread is None)
    assert [thread.thread_id for thread in threads_of(person)] == [thread_id]
    assert send(api, person, attachment["id"])


def test_a_failure_before_the_message_is_stored_leaves_no_thread(
    api: Api, person: Person, database_url: str
) -> None:
    """For example, the user deletes the file in another window at the same time."""
    body, token = message_request(attach(api, person)["id"]), person.token()

    with ThreadPoolExecutor(1) as client, locked(database_url, "support_thread") as connection:
        answer = client.submit(api.post, body, token)
        wait_for_lock(connection)
        connection.execute("DELETE FROM support_attachment WHERE user_id = %s", [person.user_id])
        connection.commit()

    assert (answer.result().status_code, answer.result().json()) == (404, NOT_FOUND)
    assert threads_of(person) == []


def test_thread_created_is_sent_only_after_the_message_is_stored(
    api: Api, person: Person, database_url: str
) -> None:
    token = person.token()
    with ThreadPoolExecutor(1) as client:
        with locked(database_url, "support_item") as connection:
            first = client.submit(first_event, api, token)
            wait_for_lock(connection)
            api.post(operation("threads.list"), token)  # meanwhile an event could arrive
            sent_early = first.done()

        assert first.result()["type"] == "thread.created"
    assert not sent_early


def first_event(api: Api, token: str) -> Any:
    with api.stream(create(), token) as events:
        return next(events)[1]


def test_files_of_messages_that_a_retry_removes_are_released_and_deleted(api: Api, person: Person) -> None:
    gone, kept = attach(api, person), attach(api, person)
    thread_id = send(api, person)
    first = items_of(api, person, thread_id)[0]["id"]
    send(api, person, gone["id"], kept["id"], thread_id=thread_id)
    send(api, person, kept["id"])
    before = stored_file_names()

    api.events(operation("threads.retry_after_item", thread_id=thread_id, item_id=first), person.token())
    call_command("sweep_attachments", "--older-than", "0m", stdout=StringIO())

    assert {each.attachment_id for each in Attachment.objects.owned_by(person.user_id)} == {kept["id"]}
    assert len(before - stored_file_names()) >= 1
    statuses = [http.get(each["preview_url"]).status_code for each in (gone, kept)]
    assert statuses == [404, 200]


def test_a_file_that_two_messages_of_a_thread_carry_is_kept_if_a_retry_removes_one(
    api: Api, person: Person
) -> None:
    attachment = attach(api, person)
    thread_id = send(api, person, attachment["id"])
    first = items_of(api, person, thread_id)[0]["id"]
    send(api, person, attachment["id"], thread_id=thread_id)

    api.events(operation("threads.retry_after_item", thread_id=thread_id, item_id=first), person.token())
    call_command("sweep_attachments", "--older-than", "0m", stdout=StringIO())

    assert http.get(attachment["preview_url"]).content == PNG
