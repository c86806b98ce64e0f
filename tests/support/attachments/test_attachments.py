"""Attachments over HTTP: their owners, the messages that carry them and their deletion."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.files import stored_files
from support.models import Attachment, Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import (
    NOT_FOUND,
    PNG,
    announce,
    attach,
    attachment_row,
    bearer,
    items_of,
    message_request,
    put,
    send,
)
from tests.fixtures.servers.api import Api, http, operation

pytestmark = pytest.mark.django_db(transaction=True)


# --- Owners ---------------------------------------------------------------------------------------


def test_another_owners_attachment_is_not_found(api: Api, person: Person, other_person: Person) -> None:
    waiting, uploaded = announce(api, person).json()["id"], attach(api, person)["id"]
    token, mine = other_person.token(), send(api, other_person)

    def answers(attachment_id: str) -> list[tuple[int, Any]]:
        asked = [
            put(api, other_person, attachment_id, PNG),
            http.get(f"{api.origin}/support/attachments/{attachment_id}", headers=bearer(other_person)),
            api.post(operation("attachments.delete", attachment_id=attachment_id), token),
            api.post(message_request(attachment_id), token),
            api.post(message_request(attachment_id, thread_id=mine), token),
        ]
        return [(response.status_code, response.json()) for response in asked]

    assert answers("atc_x") == [(404, NOT_FOUND)] * 5
    assert answers(waiting) == answers(uploaded) == answers("atc_x")
    assert Thread.objects.owned_by(other_person.user_id).count() == 1
    assert len(items_of(api, other_person, mine)) == 2
    assert put(api, person, waiting, PNG).status_code == 200
    assert send(api, person, waiting, uploaded)


def test_an_id_of_any_shape_is_not_found(api: Api, person: Person) -> None:
    for attachment_id in ("a%00b", "x" * 3000, "%F0%9F%92%8D", "'; --"):
        url = f"{api.origin}/support/attachments/{attachment_id}"
        answers = [
            http.get(url, headers=bearer(person)),
            http.put(f"{url}/upload", content=PNG, headers=bearer(person)),
            http.get(f"{url}/content?signature=x"),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3, attachment_id


# --- Sending --------------------------------------------------------------------------------------


def test_a_message_with_an_attachment_that_was_not_uploaded_is_refused_and_changes_nothing(
    api: Api, person: Person
) -> None:
    thread_id, waiting = send(api, person), announce(api, person).json()["id"]

    answers = [
        api.post(message_request(waiting), person.token()),
        api.post(message_request(waiting, thread_id=thread_id), person.token()),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["message"]) == (
            400,
            "An attachment has not been uploaded yet",
        )
    assert Thread.objects.owned_by(person.user_id).count() == 1
    assert len(items_of(api, person, thread_id)) == 2


def test_an_attachment_of_several_threads_exists_until_the_last_of_them_is_deleted(
    api: Api, person: Person
) -> None:
    attachment = attach(api, person)
    file = attachment_row(attachment).file
    threads = [send(api, person, attachment["id"]) for _ in range(3)]
    send(api, person, attachment["id"], thread_id=threads[0])

    there = []
    for thread_id in (threads[1], threads[2], threads[0]):
        api.post(operation("threads.delete", thread_id=thread_id), person.token())
        there.append(http.get(attachment["preview_url"]).status_code)

    assert there == [200, 200, 404]
    assert not stored_files.storage().exists(file)


def test_an_attachment_can_be_sent_to_two_threads_at_the_same_time(api: Api, person: Person) -> None:
    attachment_id, token = attach(api, person)["id"], person.token()
    threads = [send(api, person), send(api, person)]
    with ThreadPoolExecutor(2) as clients:
        answers = [
            clients.submit(api.post, message_request(attachment_id, thread_id=thread_id), token)
            for thread_id in threads
        ]

    assert [answer.result().status_code for answer in answers] == [200, 200]
    for thread_id in threads:
        assert [part["id"] for part in items_of(api, person, thread_id)[2]["attachments"]] == [attachment_id]


def test_a_message_carries_each_attachment_once_and_at_most_ten(api: Api, person: Person) -> None:
    ten = [attach(api, person)["id"] for _ in range(10)]

    answers = [api.post(message_request(*ids), person.token()) for ids in ([ten[0]] * 2, [*ten, "atc_x"])]

    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["message"] == "A message carries up to 10 attachments, each once"
    thread_id = send(api, person, *ten)
    sent = items_of(api, person, thread_id)[0]["attachments"]
    assert [attachment["id"] for attachment in sent] == ten


# --- Deleting -------------------------------------------------------------------------------------
def test_deleting_an_attachment_deletes_its_file(api: Api, person: Person) -> None:
    attachment, waiting = attach(api, person), announce(api, person).json()
    file = attachment_row(attachment).file

    answers = [
        api.post(operation("attachments.delete", attachment_id=attachment_id), person.token())
        for attachment_id in (attachment["id"], waiting["id"], attachment["id"])
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert not Attachment.objects.owned_by(person.user_id).exists()
    assert not stored_files.storage().exists(file)
    assert http.get(attachment["preview_url"]).status_code == 404


def test_deleting_a_thread_deletes_only_the_files_of_its_messages(api: Api, person: Person) -> None:
    gone, kept, unsent = (attach(api, person) for _ in range(3))
    thread_id = send(api, person, gone["id"])
    send(api, person, kept["id"])
    file = attachment_row(gone).file

    response = api.post(operation("threads.delete", thread_id=thread_id), person.token())

    assert response.status_code == 200
    assert not stored_files.storage().exists(file)
    assert not Attachment.objects.filter(attachment_id=gone["id"]).exists()
    statuses = [http.get(each["preview_url"]).status_code for each in (gone, kept, unsent)]
    assert statuses == [404, 200, 200]


def test_another_user_can_delete_neither_thread_nor_file(
    api: Api, person: Person, other_person: Person
) -> None:
    attachment = attach(api, person)
    thread_id = send(api, person, attachment["id"])

    api.post(operation("threads.delete", thread_id=thread_id), other_person.token())

    assert http.get(attachment["preview_url"]).content == PNG


def test_a_file_that_cannot_be_deleted_is_logged_and_the_request_succeeds(api: Api, person: Person) -> None:
    attachment = attach(api, person, name="my diagnosis.png")
    thread_id, file = send(api, person, attachment["id"]), attachment_row(attachment).file
    path = Path(stored_files.storage().path(file))
    path.unlink()
    (path / "not empty").mkdir(parents=True)

    response = api.post(operation("threads.delete", thread_id=thread_id), person.token())

    assert response.status_code == 200
    assert not Thread.objects.owned_by(person.user_id).exists()
    assert f"A file could not be deleted: {file}" in api.log.read_text()
    assert "diagnosis" not in api.log.read_text()
    (path / "not empty").rmdir()
    path.rmdir()
