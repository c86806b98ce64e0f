"""If a model fails, the user gets one error, the partial answer is stored, and the next message works."""

import json
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from chatbackend.dev.processes import free_port, server
from support.assistant.provider import failure_messages
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import deltas_of, events_of_type, items_of, texts_of, thread_id_of, types_of
from tests.fixtures.environment import process_environment
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, operation

pytestmark = pytest.mark.django_db


def error(message: str, *, allow_retry: bool = True) -> dict[str, Any]:
    return {"type": "error", "code": "custom", "message": message, "allow_retry": allow_retry}


def refusal(status: int, headers: dict[str, str] | None = None, code: str = "") -> openai.APIStatusError:
    """The exception that OpenAI's client raises for this status."""
    kind = {429: openai.RateLimitError, 400: openai.BadRequestError}[status]
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", "http://model"))
    return kind("A secret: sk-1234", response=response, body={"code": code})


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"status": 500}, error(failure_messages.UNREACHABLE)),
        ({"status": 503}, error(failure_messages.UNREACHABLE)),
        ({"status": 429, "headers": {"Retry-After": "30"}}, error(failure_messages._busy_message("30"))),
        ({"status": 400}, error(failure_messages.REFUSED, allow_retry=False)),
        ({"status": 413}, error(failure_messages.REFUSED, allow_retry=False)),
        ({"status": 401}, error(failure_messages.UNAVAILABLE, allow_retry=False)),
        ({"status": 404}, error(failure_messages.UNAVAILABLE, allow_retry=False)),
        ({"ending": "nonsense"}, error(failure_messages.BROKE_OFF)),
        ({"ending": "hang up"}, error(failure_messages.UNREACHABLE)),
    ],
    ids=lambda value: json.dumps(value) if "type" not in value else "",
)
def test_a_failing_model_is_one_error_event_and_the_next_message_works(
    assistant: Api, person: Person, model: Model, turn: dict[str, Any], expected: dict[str, Any]
) -> None:
    model.will_answer(**turn)

    events = assistant.events(create("Hello, my name is Rumpelstiltskin"), person.token())

    assert events_of_type(events, "error") == [expected]
    thread_id = thread_id_of(events)
    assert types_of(items_of(person, thread_id)) == ["user_message"]

    model.will_answer("Back ", "again")
    assert deltas_of(assistant.events(add(thread_id, "And now?"), person.token())) == ["Back ", "again"]
    # Some providers refuse two messages of one role.
    assert model.calls[0].conversation == [
        (
            "user",
            "Hello, my name is Rumpelstiltskin\n\nAnd now?",
        )
    ]

    log = assistant.log.read_text()
    assert "The model failed" in log
    assert "Rumpelstiltskin" not in log
    assert "the-key-of-the-model" not in log
    assert "The model is not well" not in log  # a provider's message may quote the conversation


def fail_after(word: str, api: Api, person: Person, model: Model) -> list[dict[str, Any]]:
    """Read an answer. After that word, the model may go on, and fails."""
    events = []
    with api.stream(create("A story"), person.token()) as stream:
        for _, event in stream:
            events.append(event)
            if deltas_of([event]) == [word]:
                model.may_go_on.set()
    return events


@pytest.mark.parametrize("ending", ["hang up", "nonsense"])
def test_a_model_that_fails_in_mid_answer_gives_an_error_and_its_text_is_stored_once(
    assistant: Api, person: Person, model: Model, ending: str
) -> None:
    model.will_answer("Once ", "upon", ending=ending)

    events = fail_after("upon", assistant, person, model)

    assert deltas_of(events) == ["Once ", "upon"]
    assert events_of_type(events, "error") == [error(failure_messages.BROKE_OFF)]
    assert events_of_type(events, "thread.item.done")[-1]["item"]["content"][0]["text"] == "Once upon"
    thread_id = thread_id_of(events)
    assert texts_of(items_of(person, thread_id)) == ["A story", "Once upon"]

    model.will_answer("a time")
    assert deltas_of(assistant.events(add(thread_id, "Go on"), person.token())) == ["a time"]


def test_a_retry_replaces_the_partial_answer(assistant: Api, person: Person, model: Model) -> None:
    model.will_answer("Once ", ending="hang up")
    events = fail_after("Once ", assistant, person, model)
    thread_id, message_id = thread_id_of(events), events[1]["item"]["id"]
    model.will_answer("Once ", "upon a time")

    retry = operation("threads.retry_after_item", thread_id=thread_id, item_id=message_id)
    assistant.events(retry, person.token())

    assert texts_of(items_of(person, thread_id)) == ["A story", "Once upon a time"]
    assert model.calls[0].conversation == [("user", "A story")]


def test_an_error_that_a_retry_fixes_is_not_shown(assistant: Api, person: Person, model: Model) -> None:
    model.will_answer(status=503).then(status=429, headers={"Retry-After": "1"}).then("Here I am")

    events = assistant.events(create("Hello"), person.token())

    assert deltas_of(events) == ["Here I am"]
    assert events_of_type(events, "error") == []


def test_a_long_retry_after_of_a_busy_model_is_not_waited_for(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer(status=429, headers={"Retry-After": "30"}).then("Here I am")

    assistant.events(create("Hello"), person.token())

    assert len(model.calls) == 1


def test_a_model_that_is_killed_in_mid_answer_gives_an_error_and_its_text_is_stored(
    start_assistant: Callable[..., Any], person: Person, model: Model
) -> None:
    port = free_port()
    turn = json.dumps({"tokens": ["Once ", "upon"], "ending": "silence"})
    options = ["--port", str(port), "--turn", turn, "--quirk", "strict-roles"]
    command = [sys.executable, "-m", "tests.fixtures.model.server", *options]
    with (
        start_assistant(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", SUPPORT_TITLE_MODEL="") as api,
        server("model", command, process_environment(), port, "/", show=False) as process,
        api.stream(create("A story"), person.token()) as stream,
    ):
        events = []
        for _, event in stream:
            events.append(event)
            if deltas_of([event]) == ["upon"]:
                process.kill()
        process.wait()

        down = api.events(add(thread_id_of(events), "Go on"), person.token())

    assert events_of_type(events, "error") == [error(failure_messages.BROKE_OFF)]
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Once upon", "Go on"]
    assert events_of_type(down, "error") == [error(failure_messages.UNREACHABLE)]


@pytest.mark.parametrize(
    ("retry_after", "when"),
    [
        ("30", "in 30 seconds"),
        ("1.2", "in 2 seconds"),
        ("0", "in a moment"),
        ("", "in a moment"),
        ("99999", "in a moment"),
        ("-5", "in a moment"),
        ("nan", "in a moment"),
        ("inf", "in a moment"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "in a moment"),
        ("<script>", "in a moment"),
    ],
)
def test_the_error_for_a_busy_model_has_its_retry_after_if_that_is_a_sensible_number(
    retry_after: str, when: str
) -> None:
    custom_error = failure_messages.error_for_user(refusal(429, {"Retry-After": retry_after}))

    assert custom_error is not None
    assert custom_error.message == f"The assistant is very busy. Please try again {when}."


def test_an_exhausted_quota_offers_no_retry(caplog: pytest.LogCaptureFixture) -> None:
    custom_error = failure_messages.error_for_user(refusal(429, code="insufficient_quota"))

    assert custom_error is not None
    assert (custom_error.message, custom_error.allow_retry) == (failure_messages.UNAVAILABLE, False)
    assert "insufficient_quota" in caplog.text
    assert "sk-1234" not in caplog.text


def test_an_exception_of_our_own_code_is_not_a_model_error() -> None:
    assert failure_messages.error_for_user(RuntimeError()) is None
    assert failure_messages.error_for_user(KeyError()) is None
