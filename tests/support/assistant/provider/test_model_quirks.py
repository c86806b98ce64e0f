"""Providers that refuse requests that OpenAI accepts. The next message is still answered, over both APIs."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    HiddenContextItem,
    ThreadItem,
)
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from support.assistant.provider import failure_messages, input_items, simpler_requests
from support.assistant.provider.simpler_requests import FILES_NOT_READ, HISTORY_NOT_READ, ExpiringSet
from support.assistant.provider.tool_call_indexes import ToolCallIndexes
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import PDF, PNG, attach, message_request
from tests.fixtures.conversations import (
    assistant_message,
    deltas_of,
    disconnect_after,
    events_of_type,
    item_fields,
    items_of,
    store_items,
    texts_of,
    thread_id_of,
    types_of,
)
from tests.fixtures.model.quirks import SHORT_CONTEXT
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, eventually

pytestmark = pytest.mark.django_db(transaction=True)

PLAIN = {"strict-roles", "strings-only", "no-empty-text", "foreign-ids"}
REPLY = ["Good ", "morning", "!"]


def unique(file: bytes) -> bytes:
    """The file with some random bytes, because refused files are remembered across tests."""
    return file + os.urandom(8)


def notices_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["message"] for event in events_of_type(events, "notice")]


# --- Files that a model refuses -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quirk", "content", "name", "mime_type", "kind"),
    [
        ("no-pictures", PNG, "door.png", "image/png", "an image"),
        ("no-files", PDF, "terms.pdf", "application/pdf", "a document"),
    ],
    ids=["picture", "document"],
)
def test_a_refused_file_is_replaced_by_its_name_and_the_user_gets_one_notice(
    assistant: Api,
    person: Person,
    model: Model,
    quirk: str,
    content: bytes,
    name: str,
    mime_type: str,
    kind: str,
) -> None:
    attached = attach(assistant, person, unique(content), name, mime_type)
    model.quirks = {quirk}

    events = assistant.events(message_request(attached["id"]), person.token())
    more = assistant.events(add(thread_id_of(events), "And now?"), person.token())

    named = f'The user attached a file named "{name}", {kind}:'
    assert (deltas_of(events), notices_of(events)) == (REPLY, [FILES_NOT_READ])
    assert model.calls[0].conversation == [("user", f"Look\n\n{named}\n\n{input_items.FILE_NOT_SHOWN}")]
    assert (deltas_of(more), notices_of(more)) == (REPLY, [])
    assert named in model.calls[1].conversation[0][1]
    assert len(model.refused) == 1  # the later request was not refused again


@pytest.mark.parametrize(
    ("content", "name", "mime_type"),
    [(PNG, "door.png", "image/png"), (PDF, "terms.pdf", "application/pdf")],
    ids=["picture", "document"],
)
def test_a_model_that_always_fails_with_a_file_answers_without_the_file(
    assistant: Api, person: Person, model: Model, content: bytes, name: str, mime_type: str
) -> None:
    """Some servers answer 500 if their model cannot read a file."""
    attached = attach(assistant, person, unique(content), name, mime_type)
    model.quirks = {"fails-at-files"}

    events = assistant.events(message_request(attached["id"]), person.token())
    more = assistant.events(add(thread_id_of(events), "And now?"), person.token())

    assert (deltas_of(events), notices_of(events)) == (REPLY, [FILES_NOT_READ])
    assert (deltas_of(more), notices_of(more)) == (REPLY, [])
    assert len(model.refused) == 1 + simpler_requests.RETRIES


def test_a_picture_is_sent_again_after_a_temporary_failure(
    assistant: Api, person: Person, model: Model
) -> None:
    attached = attach(assistant, person, unique(PNG))
    model.will_answer(status=500).then(*REPLY)

    events = assistant.events(message_request(attached["id"]), person.token())

    assert (deltas_of(events), notices_of(events)) == (REPLY, [])
    assert b"image/png;base64" in model.calls[-1].raw


def test_a_model_that_accepts_pictures_but_no_documents_gets_the_pictures(
    assistant: Api, person: Person, model: Model
) -> None:
    picture = attach(assistant, person, unique(PNG))
    document = attach(assistant, person, unique(PDF), "terms.pdf", "application/pdf")
    model.quirks = {"no-files"}

    events = assistant.events(message_request(picture["id"], document["id"]), person.token())

    assert notices_of(events) == [FILES_NOT_READ]
    (call,) = model.calls
    assert b"image/png;base64" in call.raw
    assert b"application/pdf;base64" not in call.raw


def test_after_a_refused_file_the_model_still_gets_other_files(
    assistant: Api, person: Person, other_person: Person, model: Model
) -> None:
    broken, good = attach(assistant, person, unique(PNG)), attach(assistant, other_person, unique(PNG))
    model.quirks = {"no-pictures"}
    assistant.events(message_request(broken["id"]), person.token())
    model.quirks = set()

    events = assistant.events(message_request(good["id"]), other_person.token())

    assert notices_of(events) == []
    assert b"image/png;base64" in model.calls[-1].raw


def test_a_file_that_was_refused_for_one_user_is_still_sent_for_another(
    assistant: Api, person: Person, other_person: Person, model: Model
) -> None:
    logo = unique(PNG)
    planted, broken = attach(assistant, person, logo), attach(assistant, person, unique(PNG))
    model.quirks = {"no-pictures"}
    assistant.events(message_request(planted["id"], broken["id"]), person.token())
    model.quirks = set()
    same = attach(assistant, other_person, logo)

    events = assistant.events(message_request(same["id"]), other_person.token())

    assert notices_of(events) == []
    assert b"image/png;base64" in model.calls[-1].raw


def test_a_message_that_is_refused_for_another_reason_gets_an_error(
    assistant: Api, person: Person, model: Model
) -> None:
    attached = attach(assistant, person, unique(PNG))
    thread_id = thread_id_of(assistant.events(create("Hello"), person.token()))
    model.will_answer(status=400)

    events = assistant.events(message_request(attached["id"], thread_id=thread_id), person.token())
    model.will_answer(*REPLY)
    more = assistant.events(add(thread_id, "And now?"), person.token())

    assert [event["message"] for event in events_of_type(events, "error")] == [failure_messages.REFUSED]
    assert notices_of(events) == []
    assert deltas_of(more) == REPLY
    assert b"image/png;base64" in model.calls[-1].raw  # the picture was not remembered as refused


# --- Conversations that are too long for a model --------------------------------------------------


def test_if_the_conversation_is_too_long_the_newest_message_is_answered_alone(
    assistant: Api, person: Person, model: Model
) -> None:
    long = "word " * SHORT_CONTEXT
    thread_id = thread_id_of(assistant.events(create("Hello"), person.token()))
    model.quirks = {"short-context"}
    refused = assistant.events(add(thread_id, long), person.token())

    events = assistant.events(add(thread_id, "And now?"), person.token())

    assert [event["message"] for event in events_of_type(refused, "error")] == [failure_messages.REFUSED]
    assert (deltas_of(events), notices_of(events)) == (REPLY, [HISTORY_NOT_READ])
    assert model.calls[-1].conversation == [("user", "And now?")]
    assert texts_of(items_of(person, thread_id)) == [
        "Hello",
        "Good morning!",
        long,
        "And now?",
        "Good morning!",
    ]


def test_if_the_conversation_is_too_long_its_files_are_not_remembered_as_refused(
    assistant: Api, person: Person, model: Model
) -> None:
    picture = unique(PNG)
    thread_id = thread_id_of(assistant.events(create("word " * SHORT_CONTEXT), person.token()))
    model.quirks = {"short-context"}
    first = message_request(attach(assistant, person, picture)["id"], thread_id=thread_id)
    events = assistant.events(first, person.token())
    model.quirks = set()

    again = message_request(attach(assistant, person, picture)["id"])
    more = assistant.events(again, person.token())

    assert set(notices_of(events)) == {FILES_NOT_READ, HISTORY_NOT_READ}
    assert notices_of(more) == []
    assert b"image/png;base64" in model.calls[-1].raw


# --- Conversations with items of all types --------------------------------------------------------


def many_answers(thread_id: str) -> list[ThreadItem]:
    return [assistant_message(thread_id, f"Message {number}") for number in range(50)]


def items_of_a_teams_server(thread_id: str) -> list[ThreadItem]:
    call = {"call_id": "toolu_of_another_provider", "name": "locate", "arguments": {}}
    return [
        HiddenContextItem(**item_fields(thread_id), content="Chosen: blue"),
        ClientToolCallItem(**item_fields(thread_id), status="completed", output={"city": "Vienna"}, **call),
        assistant_message(thread_id, ""),
        AssistantMessageItem(**item_fields(thread_id), content=[]),
        ClientToolCallItem(**item_fields(thread_id), status="pending", **call),
        assistant_message(thread_id, "Half an"),
        assistant_message(thread_id, "answer"),
        HiddenContextItem(**item_fields(thread_id), content={"chosen": "red"}),
    ]


@pytest.mark.parametrize("stored", [many_answers, items_of_a_teams_server])
def test_a_model_that_accepts_only_plain_messages_gets_items_of_all_types(
    assistant: Api, person: Person, model: Model, stored: Callable[[str], list[ThreadItem]]
) -> None:
    thread_id = thread_id_of(assistant.events(create("Hello"), person.token()))
    store_items(person, *stored(thread_id))
    model.quirks = PLAIN

    events = assistant.events(add(thread_id, "And now?"), person.token())

    assert deltas_of(events) == REPLY
    assert model.refused == []


def test_after_a_stopped_answer_and_a_failed_one_the_next_message_is_answered(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("Once ", ending="silence")
    thread_id = disconnect_after(assistant, person, create("First"), "Once ")
    eventually(lambda: types_of(items_of(person, thread_id)), lambda kinds: "sdk_hidden_context" in kinds)
    model.will_answer(status=401)
    assistant.events(add(thread_id, "Second"), person.token())
    model.will_answer(*REPLY)
    model.quirks = PLAIN

    events = assistant.events(add(thread_id, "Third"), person.token())

    assert deltas_of(events) == REPLY
    assert model.refused == []


def test_after_an_empty_message_the_next_message_is_answered(
    assistant: Api, person: Person, model: Model
) -> None:
    empty = create("  ")
    empty["params"]["input"]["content"] = []
    model.quirks = PLAIN

    thread_id = thread_id_of(assistant.events(empty, person.token()))
    events = assistant.events(add(thread_id, "And now?"), person.token())

    assert deltas_of(events) == REPLY
    assert model.refused == []


def test_content_without_files_is_sent_as_one_string(assistant: Api, person: Person, model: Model) -> None:
    thread_id = thread_id_of(assistant.events(create("Hello"), person.token()))
    assistant.events(add(thread_id, "And now?"), person.token())

    body = model.calls[-1].body
    assert [
        item["content"] for item in body.get("input", body.get("messages")) if item["role"] != "system"
    ] == [
        "Hello",
        "Good morning!",
        "And now?",
    ]


# --- ToolCallIndexes and ExpiringSet --------------------------------------------------------------


def delta(
    index: int, name: str | None = None, arguments: str | None = None, call_id: str | None = None
) -> Any:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


PARTS = {
    "one after another": [delta(0, "a", "{}", "1"), delta(0, "b", "{}", "2")],
    "in pieces": [
        *(delta(0, "a", "", "1"), delta(0, None, "{}")),
        *(delta(0, "b", "", "2"), delta(0, None, "{}")),
    ],
    "without ids": [delta(0, "a", "{}"), delta(0, "b", "{}")],
    "with the name in each part": [
        *(delta(0, "a", "{"), delta(0, "a", "}")),
        *(delta(0, "b", "{"), delta(0, "b", "}")),
    ],
    "with a new id in each part": [
        *(delta(0, "a", "{", "1"), delta(0, None, "}", "2")),
        *(delta(0, "b", "{", "3"), delta(0, None, "}", "4")),
    ],
    "with separate indexes": [
        *(delta(0, "a", "{", "1"), delta(1, "b", "{", "2")),
        *(delta(0, None, "}"), delta(1, None, "}")),
    ],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_tool_calls_get_separate_indexes_whatever_indexes_the_provider_sends(parts: list[Any]) -> None:
    indexes, calls = ToolCallIndexes(), dict[int, list[Any]]()
    for part in map(ChoiceDeltaToolCall.model_validate, parts):
        indexes.rewrite_part(part)
        name, arguments = part.function.name, part.function.arguments or ""
        before = calls.get(part.index, [None, None, ""])
        calls[part.index] = [part.id or before[0], name or before[1], before[2] + arguments]

    assert [call[1:] for call in calls.values()] == [["a", "{}"], ["b", "{}"]]
    assert all(call_id for call_id, *_ in calls.values())


def test_an_expiring_set_drops_expired_keys_and_the_oldest_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simpler_requests, "MAX_KEYS", 2)
    keys, hour = ExpiringSet(), simpler_requests.KEY_LIFETIME_SECONDS

    for key in ("oldest", "older", "newest"):
        keys.add(key)

    assert [key in keys for key in ("oldest", "older", "newest", "another")] == [
        False,
        True,
        True,
        False,
    ]
    monkeypatch.setattr(simpler_requests.time, "monotonic", lambda: time.monotonic_ns() / 1e9 + hour)
    assert "newest" not in keys
