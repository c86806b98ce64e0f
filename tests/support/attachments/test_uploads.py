"""Uploads over HTTP: two-phase, direct, repeated and concurrent."""

import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx2
import psycopg
import pytest
from PIL import Image

from support.attachments.store import safe_name
from support.files import stored_files
from support.models import Attachment, Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import (
    JPEG,
    NOT_FOUND,
    PDF,
    PNG,
    TEXT,
    WESTERN,
    announce,
    attach,
    attachment_row,
    bearer,
    content_url,
    image,
    items_of,
    put,
    send,
    stored_file_names,
    upload_directly,
)
from tests.fixtures.servers.api import Api, eventually, http, operation

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_attachment_is_announced_uploaded_sent_and_shown(api: Api, person: Person) -> None:
    announced = announce(api, person, "ring.png", size=len(PNG)).json()
    descriptor = announced["upload_descriptor"]
    form = {"file": ("ring.png", PNG, "image/png")}
    uploaded = http.request(
        descriptor["method"], descriptor["url"], files=form, headers=bearer(person) | descriptor["headers"]
    ).json()
    thread_id = send(api, person, announced["id"])

    assert re.fullmatch("atc_[0-9a-f]{32}", announced["id"])
    assert descriptor == {
        "url": f"{api.origin}/support/attachments/{announced['id']}/upload",
        "method": "POST",
        "headers": {},
    }
    known = {"id": announced["id"], "type": "image", "name": "ring.png", "mime_type": "image/png"}
    assert {key: uploaded[key] for key in uploaded if key != "preview_url"} == known
    (sent,) = items_of(api, person, thread_id)[0]["attachments"]
    assert {key: sent[key] for key in sent if key != "preview_url"} == known | {"thread_id": thread_id}
    thread = api.post(operation("threads.get_by_id", thread_id=thread_id), person.token()).json()
    assert thread["items"]["data"][0]["attachments"] == [sent]
    for address in (uploaded["preview_url"], sent["preview_url"]):
        assert http.get(address).content == PNG


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("shape", ["form", "bytes", "chunked bytes", "chunked form"])
def test_a_file_is_uploaded_as_a_form_or_as_bytes_and_in_one_or_more_pieces(
    api: Api, person: Person, method: str, shape: str
) -> None:
    content = image(size=300)
    attachment_id = announce(api, person, size=5).json()["id"]
    headers = {}
    if "form" in shape:
        request = httpx2.Request("POST", "http://x", files={"file": ("a.png", content, "image/png")})
        headers["Content-Type"], content_sent = request.headers["Content-Type"], request.read()
    else:
        content_sent = content
    pieces = (content_sent[start : start + 10_000] for start in range(0, len(content_sent), 10_000))

    response = http.request(
        method,
        f"{api.origin}/support/attachments/{attachment_id}/upload",
        content=pieces if "chunked" in shape else content_sent,
        headers=bearer(person) | headers,
    )

    assert response.status_code == 200
    assert http.get(response.json()["preview_url"]).content == content
    assert Attachment.objects.get(attachment_id=attachment_id).size == len(content)


@pytest.mark.parametrize(
    ("content", "mime_type", "kind"),
    [
        (PNG, "image/png", "image"),
        (image("JPEG"), "image/jpeg", "image"),
        (image("GIF"), "image/gif", "image"),
        (image("WEBP"), "image/webp", "image"),
        (PDF, "application/pdf", "file"),
        (TEXT, "text/plain", "file"),
        (TEXT, "Text/Plain; charset=utf-8", "file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_is_uploaded_directly_and_sent(
    api: Api, person: Person, content: bytes, mime_type: str, kind: str
) -> None:
    attachment = upload_directly(api, person, content, "a", mime_type).json()

    thread_id = send(api, person, attachment["id"])
    assert attachment["type"] == kind
    assert attachment["mime_type"] == mime_type.partition(";")[0].lower()
    assert "metadata" not in attachment
    assert "metadata" not in items_of(api, person, thread_id)[0]["attachments"][0]
    assert http.get(content_url(api, person, attachment["id"])).content == content


# Files from Windows, Excel and office programs: content, name, announced type and detected type.
OF_OFFICES = [
    pytest.param(WESTERN.encode("cp1252"), "a.csv", "application/vnd.ms-excel", "text/csv", id="Excel's CSV"),
    pytest.param(WESTERN.encode("utf-8-sig"), "a.CSV", "text/plain", "text/csv", id="CSV UTF-8 of Excel"),
    pytest.param(WESTERN.encode("utf-16"), "a.txt", "text/plain", "text/plain", id="Unicode text of Excel"),
    pytest.param(WESTERN.encode("utf-16-be"), "a.csv", "text/csv", "text/csv", id="UTF-16 without a mark"),
    pytest.param(WESTERN.encode("cp1252") + b"\x1a", "a.csv", "", "text/csv", id="with a Ctrl-Z"),
    pytest.param(TEXT, "a.md", "text/x-markdown", "text/markdown", id="Markdown"),
    pytest.param(TEXT, "README.markdown", "application/octet-stream", "text/markdown", id="untold Markdown"),
    pytest.param(TEXT, "server.log", "", "text/plain", id="a log"),
    pytest.param(TEXT, "README", "", "text/plain", id="a text without a suffix"),
    pytest.param(PDF, "scan", "application/octet-stream", "application/pdf", id="an untold PDF"),
    pytest.param(b"\0" * 1019 + PDF, "a.pdf", "application/x-pdf", "application/pdf", id="PDF behind junk"),
    pytest.param(JPEG, "a.jpg", "image/jpg", "image/jpeg", id="image/jpg"),
    pytest.param(JPEG, "a.jpg", "image/pjpeg", "image/jpeg", id="image/pjpeg"),
    pytest.param(PNG, "photo", "", "image/png", id="an untold picture"),
    pytest.param(image("WEBP"), "a.jpg", "image/jpeg", "image/webp", id="WebP that is called a JPEG"),
]


@pytest.mark.parametrize(("content", "name", "announced", "mime_type"), OF_OFFICES)
def test_a_file_from_an_office_program_is_accepted_and_not_changed(
    api: Api, person: Person, content: bytes, name: str, announced: str, mime_type: str
) -> None:
    attached = [
        attach(api, person, content, name, announced),
        upload_directly(api, person, content, name, announced).json(),
    ]

    thread_id = send(api, person, *(attachment["id"] for attachment in attached))

    for attachment in (*attached, *items_of(api, person, thread_id)[0]["attachments"]):
        kind = "image" if mime_type.startswith("image/") else "file"
        assert (attachment["mime_type"], attachment["type"]) == (mime_type, kind)
        assert ("preview_url" in attachment) == (kind == "image")
    for attachment in attached:
        response = http.get(content_url(api, person, attachment["id"]))
        assert response.content == content
        assert response.headers["Content-Type"].startswith(
            "text/plain; charset=" if mime_type.startswith("text/") else mime_type
        )
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_jpeg_with_more_pictures_after_it_is_a_jpeg(api: Api, person: Person) -> None:
    content = BytesIO()
    pictures = [Image.effect_noise((8, 8), 50).convert("RGB") for _ in range(2)]
    pictures[0].save(content, "MPO", save_all=True, append_images=pictures[1:])

    assert upload_directly(api, person, content.getvalue(), "a.jpg", "image/jpeg").status_code == 200


# --- Names of files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/", "file"),
        ("..", "file"),
        ("", "file"),
        ("a\r\nSet-Cookie: b=c.txt", "aSet-Cookie: b=c.txt"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("a\u2028b\x7f.txt", "ab.txt"),
        ("CON", "CON"),
        ("x" * 5000 + ".png", "x" * 116 + ".png"),
        ("x." + "y" * 5000, None),
        ("größe 中 💍.png", "größe 中 💍.png"),
    ],
)
def test_the_name_of_a_file_is_never_used_as_a_path(
    api: Api, person: Person, name: str, shown: str | None
) -> None:
    attachment = announce(api, person, name).json()
    put(api, person, attachment["id"], PNG)

    if shown is not None:
        assert attachment["name"] == shown
    assert len(attachment["name"]) <= 120
    assert stored_files.NAME.fullmatch(attachment_row(attachment).file)
    response = http.get(content_url(api, person, attachment["id"]))
    assert (response.status_code, "Set-Cookie" in response.headers) == (200, False)


def test_the_name_of_a_file_in_a_form_is_never_used_as_a_path(api: Api, person: Person) -> None:
    for name in ("../../etc/passwd", "a\\b\\passwd"):
        assert upload_directly(api, person, TEXT, name, "text/plain").json()["name"] == "passwd"


def test_a_lone_surrogate_is_removed_from_the_name_of_a_file() -> None:
    assert safe_name("a\ud83d.png") == "a.png"


# --- Repeated and concurrent uploads --------------------------------------------------------------


def test_an_uploaded_file_cannot_be_replaced(api: Api, person: Person) -> None:
    attachment, before = attach(api, person), stored_file_names()

    again = put(api, person, attachment["id"], image())

    assert (again.status_code, again.json()["message"]) == (409, "This attachment has been uploaded already")
    assert http.get(attachment["preview_url"]).content == PNG
    assert stored_file_names() == before


def test_a_client_can_repeat_an_upload_if_it_lost_the_response(api: Api, person: Person) -> None:
    attachment, before = attach(api, person), stored_file_names()

    again = put(api, person, attachment["id"], PNG)

    assert (again.status_code, again.json()) == (200, attachment)
    assert stored_file_names() == before


def test_of_concurrent_uploads_of_an_attachment_only_one_is_stored(
    api: Api, person: Person, database_url: str
) -> None:
    attachment_id, before = announce(api, person).json()["id"], stored_file_names()
    contents = [image() for _ in range(4)]
    with psycopg.connect(database_url) as elsewhere, ThreadPoolExecutor(len(contents)) as clients:
        elsewhere.execute(
            "SELECT id FROM support_attachment WHERE attachment_id = %s FOR UPDATE", [attachment_id]
        )
        uploads = [clients.submit(put, api, person, attachment_id, content) for content in contents]
        # All uploads have stored their files and wait for the row's lock.
        eventually(lambda: len(stored_file_names() - before), lambda new: new == len(contents))

        elsewhere.commit()

        answers = [upload.result() for upload in uploads]
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 3]
    (winner,) = [content for content, answer in zip(contents, answers, strict=True) if answer.is_success]
    assert http.get(content_url(api, person, attachment_id)).content == winner
    assert len(stored_file_names() - before) == 1


@pytest.mark.parametrize("what", ["the attachment", "its thread"])
def test_an_upload_to_an_attachment_that_is_deleted_meanwhile_leaves_no_file(
    api: Api, person: Person, database_url: str, what: str
) -> None:
    attachment_id, before = announce(api, person).json()["id"], stored_file_names()
    thread = Thread.objects.get(thread_id=send(api, person))
    if what == "its thread":  # a team's store may set the thread before the upload
        Attachment.objects.filter(attachment_id=attachment_id).update(thread=thread)
    with psycopg.connect(database_url) as deletion, ThreadPoolExecutor(1) as client:
        if what == "its thread":
            deletion.execute("DELETE FROM support_item WHERE thread_id = %s", [thread.pk])
        deletion.execute("DELETE FROM support_attachment WHERE attachment_id = %s", [attachment_id])
        upload = client.submit(put, api, person, attachment_id, PNG)
        # Its file is stored, and it waits for the row's lock.
        eventually(lambda: len(stored_file_names() - before), lambda new: new == 1)

        deletion.commit()

        assert (upload.result().status_code, upload.result().json()) == (404, NOT_FOUND)
    assert stored_file_names() == before
