"""A thread gets its title while the first answer is made. The title does not disturb the answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.types import LockedStatus

from support.assistant import title
from support.conf import conf
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import STORE, deltas_of, events_of_type, thread_id_of, title_of
from tests.fixtures.model.server import Model
from tests.fixtures.model.turn import Turn
from tests.fixtures.servers.api import Api, add, create, eventually, operation

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_title_model_makes_a_title_from_the_first_message_and_the_client_gets_it(
    assistant: Api, person: Person, model: Model
) -> None:
    model.title = Turn(["Lost parcel"])

    events = assistant.events(create("Where is my parcel?"), person.token())

    (call,) = model.title_calls
    assert (call.body["model"], call.conversation) == ("small-model", [("user", "Where is my parcel?")])
    assert [event["thread"]["title"] for event in events_of_type(events, "thread.updated")] == ["Lost parcel"]
    assert title_of(person, thread_id_of(events)) == "Lost parcel"


def test_a_thread_with_a_title_keeps_it(assistant: Api, person: Person, model: Model) -> None:
    thread_id = thread_id_of(assistant.events(create("First"), person.token()))
    model.will_answer("Yes")

    events = assistant.events(add(thread_id, "Second"), person.token())

    assert model.title_calls == []
    assert events_of_type(events, "thread.updated") == []


@contextmanager
def title_in_progress(assistant: Api, model: Model, token: str) -> Iterator[str]:
    """In this ``with`` block, the model is asked for a title and for an answer. Then both are finished.

    Gives ChatKit's id of the thread.
    """
    model.will_answer("Good morning", waits=True)
    model.title.waits = True
    with assistant.stream(create("Hello"), token) as events:
        thread_id = next(events)[1]["thread"]["id"]
        eventually(lambda: len(model.title_calls), lambda calls: calls == 1)
        yield thread_id
        model.may_go_on.set()
        list(events)


def test_changes_of_a_thread_while_its_title_is_generated_are_kept(
    assistant: Api, person: Person, model: Model
) -> None:
    token = person.token()
    with title_in_progress(assistant, model, token) as thread_id:
        assistant.post(operation("threads.update", thread_id=thread_id, title="My own"), token)
        thread = async_to_sync(STORE.load_thread)(thread_id, person)
        async_to_sync(STORE.save_thread)(thread.model_copy(update={"status": LockedStatus()}), person)

    thread = async_to_sync(STORE.load_thread)(thread_id, person)
    assert (thread.title, thread.status) == ("My own", LockedStatus())


def test_a_thread_that_is_deleted_while_its_title_is_generated_stays_deleted(
    assistant: Api, person: Person, model: Model
) -> None:
    token = person.token()
    with title_in_progress(assistant, model, token) as thread_id:
        assistant.post(operation("threads.delete", thread_id=thread_id), token)

    assert assistant.post(operation("threads.list"), token).json()["data"] == []


@pytest.mark.parametrize(
    "turn",
    [Turn(status=500), Turn(status=401), Turn([""]), Turn(['" ** "'])],
    ids=["down", "no key", "empty", "only punctuation"],
)
def test_if_the_title_fails_the_answer_is_complete_and_the_next_message_tries_again(
    assistant: Api, person: Person, model: Model, turn: Turn
) -> None:
    model.title = turn

    events = assistant.events(create("Where is my parcel?"), person.token())

    assert deltas_of(events) == ["Good ", "morning", "!"]
    assert events_of_type(events, "error") == events_of_type(events, "thread.updated") == []
    assert title_of(person, thread_id_of(events)) is None

    model.title = Turn(["Lost parcel"])
    assistant.events(add(thread_id_of(events), "And now?"), person.token())
    assert title_of(person, thread_id_of(events)) == "Lost parcel"


def test_a_slow_title_is_cancelled_soon_after_the_answer(
    assistant: Api, person: Person, model: Model
) -> None:
    model.title = Turn(ending="silence")
    token = person.token()

    with assistant.stream(create("Hello"), token) as stream:
        arrivals = [(event["type"], time.monotonic()) for _, event in stream]
        ended = time.monotonic()

    assert model.title_calls[0].abandoned.wait(15)
    answered = max(moment for kind, moment in arrivals if kind == "thread.item.done")
    assert ended - answered < 5 * title.MAX_DELAY_SECONDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lost parcel", "Lost parcel"),
        ('  "Lost\nparcel." ', "Lost parcel"),
        ("**Lost parcel**", "Lost parcel"),
        ("# Verlorenes Paket", "Verlorenes Paket"),
        ("„Verlorenes Paket“", "Verlorenes Paket"),
        ("包裹丢失", "包裹丢失"),
        ("Lost\x00 par\x1b[31mcel\u202e", "Lost par [31mcel"),
        ("word " * 100, "word word word word word word word word word word word word…"),
        ("x" * 100, "x" * 59 + "…"),
        ("", ""),
        (" \n\t ", ""),
    ],
)
def test_a_title_is_one_short_line(text: str, expected: str) -> None:
    assert title.tidy(text) == expected
    assert len(title.tidy(text)) <= title.MAX_LENGTH


def test_without_a_title_model_the_main_model_makes_titles(settings: Any) -> None:
    settings.SUPPORT_MODEL, settings.SUPPORT_TITLE_MODEL = "gpt", ""

    assert conf.SUPPORT_TITLE_MODEL == "gpt"
