"""What the model gets of an attachment, through the real agent and its real HTTP client."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import agent, files
from support.models import Attachment
from tests.model_server import Model, model_server
from tests.people import Person
from tests.server import Api, add
from tests.support.test_attachments import PDF, PNG, attach, send

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server() as running:
        yield running


@pytest.fixture(scope="module")
def api(auth: Any, start_api: Callable[..., Any], model: Model) -> Iterator[Api]:
    with start_api(
        OPENAI_BASE_URL=model.base_url, SUPPORT_MODEL="m", SUPPORT_RATE_PER_USER="100000/min"
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _the_model_answers(model: Model) -> None:
    model.play("I see.")


def parts_of(model: Model) -> list[dict[str, Any]]:
    """The first message, as the model got it last; without what the user typed."""
    content: list[dict[str, Any]] = model.calls[-1].body["input"][0]["content"]
    return [part for part in content if part.get("text") != "Look"]


def data_url(mime_type: str, content: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def test_the_model_sees_pictures_and_documents_and_reads_texts(
    api: Api, person: Person, model: Model
) -> None:
    attached = [
        attach(api, person),
        attach(api, person, PDF, "minutes.pdf", "application/pdf"),
        attach(api, person, "Grüezi ✓".encode(), 'a".txt', "text/plain"),
    ]

    thread_id = send(api, person, *(attachment["id"] for attachment in attached))

    seen = [
        {"type": "input_image", "image_url": data_url("image/png", PNG), "detail": "auto"},
        {
            "type": "input_file",
            "filename": "minutes.pdf",
            "file_data": data_url("application/pdf", PDF),
        },
        {"type": "input_text", "text": 'The user attached a file named "a\\".txt":\nGrüezi ✓'},
    ]
    assert parts_of(model) == seen
    api.events(add(thread_id), person.token())
    assert parts_of(model) == seen


def test_of_a_long_text_the_model_reads_the_beginning(api: Api, person: Person, model: Model) -> None:
    text = "word " * agent.MAX_TEXT
    attachment = attach(api, person, text.encode(), "a.txt", "text/plain")

    send(api, person, attachment["id"])

    (part,) = parts_of(model)
    told, _, read = part["text"].partition("\n")
    assert told == f'The user attached a file named "a.txt", its first {agent.MAX_TEXT} characters:'
    assert read == text[: agent.MAX_TEXT]


@pytest.mark.parametrize("gone", ["attachment", "file"])
def test_a_file_that_is_gone_does_not_break_its_conversation(
    api: Api, person: Person, model: Model, gone: str
) -> None:
    attachment = attach(api, person, name="ring.png")
    thread_id = send(api, person, attachment["id"])
    row = Attachment.objects.get(attachment_id=attachment["id"])
    if gone == "attachment":
        Attachment.objects.filter(pk=row.pk).delete_with_files()
    else:
        files.delete([row.file])

    events = api.events(add(thread_id), person.token())

    assert events[-1]["type"] == "thread.item.done"
    (part,) = parts_of(model)
    assert part["text"] == 'The user attached a file named "ring.png", which has been deleted since.'
