"""What the model gets of an attachment, with the real agent and its real HTTP client."""

import base64
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.types import FileAttachment

from support.assistant import history
from support.files import stored_files
from support.models import Attachment
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import PDF, PNG, attach, send
from tests.fixtures.model.server import Model
from tests.fixtures.owner import message
from tests.fixtures.servers.api import Api, add

pytestmark = pytest.mark.django_db(transaction=True)


def parts_of(model: Model) -> list[tuple[str, ...]]:
    """The attachments' parts of the first message in the model's last request. The same for both APIs."""
    body = model.calls[-1].body
    messages = body["input"] if "input" in body else body["messages"]
    content = next(each["content"] for each in messages if each["role"] == "user")
    if isinstance(content, str):  # only texts
        return [("text", content.removeprefix("Look\n\n"))]
    return [part for part in map(part_of, content) if part != ("text", "Look")]


def part_of(part: dict[str, Any]) -> tuple[str, ...]:
    match part:
        case {"type": "input_text" | "text", "text": text}:
            return "text", text
        case {"type": "input_image", "image_url": url} | {"type": "image_url", "image_url": {"url": url}}:
            return "image", url
        case {"type": "input_file", "filename": name, "file_data": data} | {
            "type": "file",
            "file": {"filename": name, "file_data": data},
        }:
            return "file", name, data
    raise AssertionError(part)


def data_url(mime_type: str, content: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def test_the_model_gets_pictures_documents_and_texts(assistant: Api, person: Person, model: Model) -> None:
    attached = [
        attach(assistant, person),
        attach(assistant, person, PDF, "minutes.pdf", "application/pdf"),
        attach(assistant, person, "Grüezi ✓".encode(), 'a".txt', "text/plain"),
    ]

    thread_id = send(assistant, person, *(attachment["id"] for attachment in attached))

    seen = [
        ("text", 'The user attached a file named "a.png", an image:'),
        ("image", data_url("image/png", PNG)),
        ("text", 'The user attached a file named "minutes.pdf", a document:'),
        ("file", "minutes.pdf", data_url("application/pdf", PDF)),
        ("text", 'The user attached a file named "a\\".txt":\nGrüezi ✓'),
    ]
    assert parts_of(model) == seen
    assistant.events(add(thread_id), person.token())
    assert parts_of(model) == seen


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_model_gets_a_text_in_any_encoding(
    assistant: Api, person: Person, model: Model, encoding: str
) -> None:
    text = "Grüße;5\r\n"
    attachment = attach(
        assistant, person, f"{text}\x1a".encode(encoding), "a.csv", "application/vnd.ms-excel"
    )

    send(assistant, person, attachment["id"])

    assert parts_of(model) == [("text", f'The user attached a file named "a.csv":\n{text}')]


def test_a_long_text_in_utf16_is_cut_between_two_characters(
    assistant: Api, person: Person, model: Model
) -> None:
    text = "中a" * history.MAX_TEXT_LENGTH
    attachment = attach(assistant, person, text.encode("utf-16"), "a.txt", "text/plain")

    send(assistant, person, attachment["id"])

    ((_, text_read),) = parts_of(model)
    assert text_read.partition("\n")[2] == text[: history.MAX_TEXT_LENGTH]


def test_the_model_gets_the_beginning_of_a_long_text(assistant: Api, person: Person, model: Model) -> None:
    text = "word " * history.MAX_TEXT_LENGTH
    attachment = attach(assistant, person, text.encode(), "a.txt", "text/plain")

    send(assistant, person, attachment["id"])

    ((_, text_read),) = parts_of(model)
    note, _, read = text_read.partition("\n")
    assert note == f'The user attached a file named "a.txt", its first {history.MAX_TEXT_LENGTH} characters:'
    assert read == text[: history.MAX_TEXT_LENGTH]


@pytest.mark.parametrize("gone", ["attachment", "file"])
def test_a_missing_file_does_not_break_its_conversation(
    assistant: Api, person: Person, model: Model, gone: str
) -> None:
    attachment = attach(assistant, person, name="ring.png")
    thread_id = send(assistant, person, attachment["id"])
    row = Attachment.objects.get(attachment_id=attachment["id"])
    if gone == "attachment":
        Attachment.objects.filter(pk=row.pk).delete_with_files()
    else:
        stored_files.delete([row.file])

    events = assistant.events(add(thread_id), person.token())

    assert "error" not in [event["type"] for event in events]
    assert parts_of(model) == [
        ("text", 'The user attached a file named "ring.png", which has been deleted since.')
    ]


def as_input(items: list[Any]) -> list[Any]:
    earlier, newest = async_to_sync(history.convert_to_input)(items)
    return [*earlier, *newest]


def test_a_storage_that_fails_does_not_break_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise PermissionError

    monkeypatch.setattr(stored_files, "open_file", refuse)

    messages = as_input([carrying("new", 1)])

    text = " ".join(part["text"] for part in messages[0]["content"])
    assert 'named "new.txt", which cannot be read at the moment.' in text


def carrying(attachment_id: str, size: int) -> Any:
    file = FileAttachment(
        id=attachment_id, name=f"{attachment_id}.txt", mime_type="text/plain", metadata={"size": size}
    )
    return message(f"msg_{attachment_id}", "Look").model_copy(update={"attachments": [file]})


@pytest.mark.parametrize("newest", [1, history.MAX_FILE_BYTES + 1])
def test_the_model_gets_only_the_newest_of_many_files(newest: int) -> None:
    items = [carrying("old", history.MAX_FILE_BYTES), message("msg_0", "Hm"), carrying("new", newest)]

    messages = as_input(items)

    assert [
        part["text"] for each in messages for part in each["content"] if "attached" in part.get("text", "")
    ] == [
        'The user attached a file named "old.txt", too much to show you beside the others.',
        'The user attached a file named "new.txt", which has been deleted since.',  # its file is missing
    ]


def test_the_model_gets_as_many_long_texts_as_it_can_read() -> None:
    fit = history.MAX_LENGTH // history.MAX_TEXT_LENGTH
    texts = [carrying(str(number), 5 * history.MAX_TEXT_LENGTH) for number in range(fit + 3)]

    messages = as_input(texts)

    shown = [
        "deleted since" in part["text"]
        for each in messages
        for part in each["content"]
        if "attached" in part["text"]
    ]
    assert shown == [False] * 3 + [True] * fit
