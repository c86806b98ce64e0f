"""The ends of an answer, and the notice or the error for each of them, over both APIs."""

from typing import Any

import pytest

from support.assistant.provider import failure_messages
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import (
    deltas_of,
    events_of_type,
    items_of,
    texts_of,
    thread_id_of,
    title_of,
    types_of,
)
from tests.fixtures.model.server import Model
from tests.fixtures.model.turn import Turn
from tests.fixtures.servers.api import Api, add, create

pytestmark = pytest.mark.django_db

CUT_OFF = {"finish_reason": "length"}
FILTERED = {"finish_reason": "content_filter"}
NO_REASON = {"finish_reason": None}
UNKNOWN_REASON = {"finish_reason": "the_moon"}


def error(message: str, *, allow_retry: bool = True) -> dict[str, Any]:
    return {"type": "error", "code": "custom", "message": message, "allow_retry": allow_retry}


def test_a_models_refusal_is_shown_as_its_answer(assistant: Api, person: Person, model: Model) -> None:
    model.will_answer(refusal=["I cannot ", "help with that."])

    events = assistant.events(create("Do harm"), person.token())

    assert deltas_of(events) == ["I cannot ", "help with that."]
    assert events_of_type(events, "error") == events_of_type(events, "notice") == []
    assert texts_of(items_of(person, thread_id_of(events))) == ["Do harm", "I cannot help with that."]

    model.will_answer("Yes")
    assistant.events(add(thread_id_of(events), "Why?"), person.token())
    assert model.calls[0].conversation[1] == ("assistant", "I cannot help with that.")


def test_a_models_refusal_after_some_text_is_added_to_the_answer(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("Sorry: ", refusal=["I cannot ", "do that."])

    events = assistant.events(create("Do harm"), person.token())

    assert deltas_of(events) == ["Sorry: ", "I cannot ", "do that."]
    [_, answer] = items_of(person, thread_id_of(events))
    assert [part.text for part in answer.content] == ["Sorry: ", "I cannot do that."]


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (CUT_OFF, failure_messages.LENGTH_NOTICE),
        (FILTERED, failure_messages.FILTER_NOTICE),
        (NO_REASON, failure_messages.UNKNOWN_NOTICE),
        (UNKNOWN_REASON, failure_messages.UNKNOWN_NOTICE),
    ],
    ids=str,
)
def test_an_incomplete_answer_is_stored_and_a_notice_gives_the_reason(
    assistant: Api, person: Person, model: Model, ending: dict[str, Any], message: str
) -> None:
    model.will_answer("Once ", "upon", **ending)

    events = assistant.events(create("A story"), person.token())

    assert deltas_of(events) == ["Once ", "upon"]
    assert [notice["message"] for notice in events_of_type(events, "notice")] == [message]
    assert events_of_type(events, "error") == []
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Once upon"]

    model.will_answer("a time")
    assistant.events(add(thread_id_of(events), "Go on"), person.token())
    assert model.calls[0].conversation[1] == ("assistant", "Once upon")


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (CUT_OFF, error(failure_messages.LENGTH_ERROR)),
        (FILTERED, error(failure_messages.FILTER_ERROR, allow_retry=False)),
        (NO_REASON, error(failure_messages.EMPTY_ERROR)),
        ({}, error(failure_messages.EMPTY_ERROR)),
        ({"tokens": ["", " \n"]}, error(failure_messages.EMPTY_ERROR)),
        ({"reasoning": ["Hmm"]}, error(failure_messages.EMPTY_ERROR)),
        ({"tokens": ["<think>", "Hmm"]}, error(failure_messages.EMPTY_ERROR)),
    ],
    ids=str,
)
def test_an_answer_without_text_is_an_error_and_no_message_is_stored(
    assistant: Api, person: Person, model: Model, turn: dict[str, Any], expected: dict[str, Any]
) -> None:
    model.will_answer(*turn.get("tokens", []), **{name: turn[name] for name in turn if name != "tokens"})

    events = assistant.events(create("A story"), person.token())

    assert events_of_type(events, "error") == [expected]
    assert deltas_of(events) == events_of_type(events, "notice") == []
    kinds = types_of(items_of(person, thread_id_of(events)))
    assert [kind for kind in kinds if kind != "workflow"] == ["user_message"]


def test_finish_reasons_of_other_providers_are_known(assistants: Any, person: Person, model: Model) -> None:
    model.will_answer("Good morning", finish_reason="END_TURN")

    events = assistants("chat_completions").events(create("Hello"), person.token())

    assert events_of_type(events, "notice") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [(["Let me see. "], failure_messages.LENGTH_NOTICE), ([], failure_messages.LENGTH_ERROR)],
)
def test_a_tool_is_not_called_in_an_answer_that_was_cut_off(
    assistant: Api, person: Person, model: Model, words: list[str], message: str
) -> None:
    model.will_answer(*words, tools=[("no_such_tool", {})], **CUT_OFF)

    events = assistant.events(create("Look it up"), person.token())

    assert len(model.calls) == 1
    assert [event["message"] for kind in ("notice", "error") for event in events_of_type(events, kind)] == [
        message
    ]
    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", *words]


def test_an_empty_answer_after_a_tool_call_gets_a_notice(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("Let me see. ", tools=[("no_such_tool", {})]).then()

    events = assistant.events(create("Look it up"), person.token())

    assert len(model.calls) == 2
    assert [notice["message"] for notice in events_of_type(events, "notice")] == [
        failure_messages.EMPTY_NOTICE
    ]
    assert events_of_type(events, "error") == []


@pytest.mark.parametrize(
    "turn",
    [
        Turn(["Lost par"], **CUT_OFF),
        Turn(["Lost parcel"], **FILTERED),
        Turn(refusal=["I cannot help with that."]),
        Turn(["<think>The user asks for a title"]),
    ],
    ids=lambda turn: f"{turn.tokens}{turn.refusal} {turn.finish_reason}",
)
def test_an_incomplete_title_is_not_used(assistant: Api, person: Person, model: Model, turn: Turn) -> None:
    model.title = turn

    events = assistant.events(create("Where is my parcel?"), person.token())

    assert deltas_of(events) == ["Good ", "morning", "!"]
    assert title_of(person, thread_id_of(events)) is None
