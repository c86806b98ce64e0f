"""Every example of the API's documentation gets the documented response from a real server."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest

from support.openapi import example_responses, operations
from support.openapi.components import components
from tests.fixtures.accounts.people import Person
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, create

# The message that prepares the thread for the operation (see tests.fixtures.chatkit.servers).
FIRST_MESSAGES = {
    "threads.add_client_tool_output": "locate",
    "threads.add_structured_input": "ask",
    "threads.custom_action": "show",
    "threads.sync_custom_action": "show",
}


@pytest.fixture(scope="module")
def shop(start_assistant: Callable[..., Any]) -> Iterator[Api]:
    """A server with all operations, dictation included."""
    with start_assistant(
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.ShopServer",
        SUPPORT_TRANSCRIPTION_MODEL="model-of-the-tests",
    ) as running:
        yield running


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_the_example_of_each_operation_gets_the_documented_response(
    shop: Api, person: Person, model: Model, name: str
) -> None:
    token = person.token()
    first_events = shop.events(create(FIRST_MESSAGES.get(name, "Hi")), token)
    ids = {
        operations.THREAD_ID: first_events[0]["thread"]["id"],
        operations.ITEM_ID: _item_id(name, first_events),
        operations.ATTACHMENT_ID: shop.post(operations.example("attachments.create"), token).json()["id"],
    }
    example = json.dumps(operations.example(name))
    for documented, real in ids.items():
        example = example.replace(documented, real)

    response = shop.post(example.encode(), token)

    assert response.status_code == 200, (response.text, example, first_events)
    answer = operations.OPERATIONS[name].response
    if answer == operations.STREAM:
        assert response.headers["Content-Type"] == "text/event-stream"
        answers = _events(response.text)
        assert "error" not in [event["type"] for event in answers]
    else:
        assert response.headers["Content-Type"] == "application/json"
        answers = [response.json(), example_responses.json_responses()[name]]
        assert answers[0].keys() <= answers[1].keys()
    for each in answers:
        check(answer, each)


def _item_id(name: str, first_events: list[dict[str, Any]]) -> str:
    """The id of the user's message for a retry, and otherwise of the server's last item."""
    items = [event["item"]["id"] for event in first_events if event["type"] == "thread.item.done"]
    return str(items[0] if name == "threads.retry_after_item" else items[-1])


def test_each_call_of_example_returns_a_new_copy() -> None:
    example = operations.example("threads.add_user_message")
    example["params"]["input"]["content"].clear()
    example["params"]["thread_id"] = "thr_1"

    assert operations.example("threads.add_user_message") != example
    assert operations.example("threads.create")["params"]["input"]["content"]


def test_the_example_of_a_stream_has_the_events_of_a_real_stream(api: Api, person: Person) -> None:
    def types_of(events: list[dict[str, Any]]) -> list[str]:
        """The types of the events. Repeated types count once, because the number of text updates varies."""
        found = [event.get("update", event)["type"] for event in events]
        return [kind for kind, before in zip(found, [None, *found], strict=False) if kind != before]

    example = _events(example_responses.stream())

    for event in example:
        check("ThreadStreamEvent", event)
    assert types_of(example) == types_of(api.events(operations.example("threads.create"), person.token()))


def test_errors_have_the_documented_body(shop: Api, person: Person) -> None:
    token = person.token()
    bodies = [operations.example("threads.get_by_id"), {"type": "threads.list"}, {"type": "threads.none"}]

    responses = [shop.post(body, token) for body in bodies] + [shop.post(bodies[0])]

    assert [response.status_code for response in responses] == [404, 400, 400, 401]
    for response in responses:
        check("Error", response.json())


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ("Thread", {"id": "thr_1", "created_at": "2026-03-01T12:30:15", "status": {"type": "gone"}}),
        ("ThreadStreamEvent", {"type": "thread.item.done", "item": {"type": "hidden_context_item"}}),
        ("ThreadStreamEvent", {"thread": {}}),
        ("Nothing", {"id": "thr_1"}),
        ("ChatKitRequest", {"params": {}}),
    ],
)
def test_the_schemas_refuse_wrong_documents(schema: str, wrong: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(schema, wrong)


known = cache(components)


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(event.removeprefix("data: ")) for event in text.strip().split("\n\n")]


def check(schema: str, instance: Any) -> None:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": known()}}
    jsonschema.Draft202012Validator(whole).validate(instance)
