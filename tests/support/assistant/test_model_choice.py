"""The model that the user picks in ChatKit's composer is used if it is on offer, and refused if not."""

from typing import Any

import pytest

from support.models import Item
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import deltas_of, items_of, thread_id_of
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, operation

pytestmark = pytest.mark.django_db(transaction=True)


def picking(name: str, body: dict[str, Any]) -> dict[str, Any]:
    body["params"]["input"]["inference_options"] = {"model": name}
    return body


def test_the_picked_model_answers_and_also_answers_a_retry(
    assistant: Api, person: Person, model: Model
) -> None:
    token = person.token()
    events = assistant.events(picking("another-model", create()), token)
    thread_id, message_id = thread_id_of(events), events[1]["item"]["id"]
    assistant.events(operation("threads.retry_after_item", thread_id=thread_id, item_id=message_id), token)
    assistant.events(add(thread_id), token)
    assistant.events(picking("model-of-the-tests", add(thread_id)), token)

    models = [call.body["model"] for call in model.calls]
    assert models == ["another-model", "another-model", "model-of-the-tests", "model-of-the-tests"]
    assert {call.body["model"] for call in model.title_calls} == {"small-model"}


def test_a_picked_model_that_is_not_on_offer_is_refused_before_anything_is_stored(
    assistant: Api, api: Api, person: Person, model: Model
) -> None:
    token = person.token()

    # The second server has no model. The local responder answers there.
    refused = [each.post(picking("secret-model", create()), token) for each in (assistant, api)]

    error = "params.input.inference_options.model is not one of the models on offer"
    assert [(each.status_code, each.json()["error"]) for each in refused] == [(400, error)] * 2
    assert assistant.post(operation("threads.list"), token).json()["data"] == []
    assert model.calls == model.title_calls == []


def test_a_picked_model_that_is_no_longer_on_offer_is_replaced_by_the_default(
    assistant: Api, person: Person, model: Model
) -> None:
    token = person.token()
    events = assistant.events(create("Hello"), token)
    thread_id, message = thread_id_of(events), items_of(person, thread_id_of(events))[0]
    message.inference_options.model = "model-of-last-year"
    Item.objects.filter(item_id=message.id).update(data=message.model_dump(mode="json"))

    retry = operation("threads.retry_after_item", thread_id=thread_id, item_id=message.id)
    events = assistant.events(retry, token)

    assert deltas_of(events) == ["Good ", "morning", "!"]
    assert model.calls[-1].body["model"] == "model-of-the-tests"
