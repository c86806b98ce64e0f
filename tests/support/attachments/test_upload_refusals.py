"""Uploads over HTTP that are refused: before the upload, for the body's length, for the bytes."""

import json
import os
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx2
import pytest

from support.models import Attachment
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import (
    HTML,
    JPEG,
    LIMIT,
    OFFICE,
    PDF,
    PNG,
    SVG,
    announce,
    bearer,
    image,
    put,
    stored_file_names,
    upload_directly,
)
from tests.fixtures.environment import PAGE_ORIGIN
from tests.fixtures.servers.api import Api, create, http

pytestmark = pytest.mark.django_db(transaction=True)


# --- Before the upload ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            {"mime_type": "image/svg+xml"},
            "Files of this type are not accepted, only PNG, JPEG, GIF, WebP, PDF, plain text, CSV, Markdown",
        ),
        ({"mime_type": "text/html"}, "Files of this type are not accepted"),
        ({"name": "a.html", "mime_type": ""}, "Files of this type are not accepted"),
        ({"name": "a.SVG", "mime_type": "application/octet-stream"}, "Files of this type are not accepted"),
        ({"name": "a.xls", "mime_type": "application/vnd.ms-excel"}, "Files of this type are not accepted"),
        ({"name": "a.csv\u202e.html", "mime_type": ""}, "Files of this type are not accepted"),
        ({"size": 10_000_001}, "The file is larger than 10 MB"),
        ({"size": 10**30}, "The file is larger than 10 MB"),
        ({"size": 0}, "The file is empty"),
        ({"size": -1}, "The file is empty"),
    ],
)
def test_an_announcement_is_refused_if_its_upload_would_be_refused(
    api: Api, person: Person, claim: dict[str, Any], message: str
) -> None:
    response = announce(api, person, **claim)

    assert response.status_code == 400
    assert response.json()["message"].startswith(message)
    assert not Attachment.objects.owned_by(person.user_id).exists()


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", ["", "/atc_x", "/atc_x/upload"])
def test_all_requests_but_the_signed_ones_need_a_token(api: Api, method: str, path: str) -> None:
    if (path == "/atc_x") != (method == "get"):
        method = "post" if method == "get" else "get"

    response = getattr(httpx2, method)(f"{api.origin}/support/attachments{path}")

    assert response.status_code == 401
    assert response.json()["message"] == "Authentication credentials were not provided"


def test_uploads_count_against_the_users_rate(start_api: Callable[..., Any], person: Person) -> None:
    with start_api(SUPPORT_RATE_PER_USER="2/min") as slow:
        codes = [upload_directly(slow, person, PNG, "a.png", "image/png").status_code for _ in range(3)]

    assert codes == [200, 200, 429]


# --- For the body ---------------------------------------------------------------------------------

DISGUISES = [
    pytest.param(HTML, "image/png", id="html as png"),
    pytest.param(SVG, "image/png", id="svg as png"),
    pytest.param(b"\x89PNG\r\n\x1a\n" + HTML, "image/png", id="html behind a signature"),
    pytest.param(b"GIF89a/*" + HTML + b"*/", "image/gif", id="script that begins as gif"),
    pytest.param(b"\xff\xd8\xff\xe0" + HTML, "image/jpeg", id="html that begins as jpeg"),
    pytest.param(image(size=100)[:-20], "image/png", id="png that breaks off"),
    pytest.param(image("WEBP", 100)[:-20], "image/webp", id="webp that breaks off"),
    # Valid images. With ten megabytes of such segments, Pillow would be busy for half a minute.
    pytest.param(JPEG[:2] + b"\xff" * 10_000 + JPEG[2:], "image/jpeg", id="jpeg of fill bytes"),
    pytest.param(JPEG[:2] + b"\xff\xe1\0\2" * 5_000 + JPEG[2:], "image/jpeg", id="jpeg of tiny segments"),
    pytest.param(PNG, "text/plain", id="png as text"),
    pytest.param(b"MZ\x90\x00\x03", "text/plain", id="program as text"),
    pytest.param(b"\x7fELF\x01\x01\x01\x00\x00\x00", "text/plain", id="program of ascii as text"),
    pytest.param(OFFICE, "text/csv", id="spreadsheet as csv"),
    pytest.param(b"PK\x03\x04\x14\x00\x06\x00" + os.urandom(500), "text/csv", id="zip as csv"),
    pytest.param(image("GIF"), "text/csv", id="gif as csv"),
    pytest.param(PDF + b"\0\x01", "text/csv", id="pdf as csv"),
    pytest.param(PDF, "image/png", id="pdf as png"),
    pytest.param(b"a,b\r\n\x81", "text/csv", id="a byte that is no character of Windows"),
    pytest.param(b"a,b\x1a\r\n1,2", "text/csv", id="a Ctrl-Z before the end"),
    pytest.param("a\x07".encode("utf-16"), "text/plain", id="control characters in UTF-16"),
    pytest.param(b"x" * 1020 + PDF, "application/pdf", id="pdf behind too much"),
    pytest.param(HTML, "application/pdf", id="html as pdf"),
    pytest.param(b"", "image/png", id="nothing"),
    pytest.param(b"", "text/plain", id="no text"),
]


@pytest.mark.parametrize(("content", "claimed"), DISGUISES)
def test_a_file_that_does_not_fit_its_announced_type_is_refused_and_not_stored(
    api: Api, person: Person, content: bytes, claimed: str
) -> None:
    before = stored_file_names()
    attachment_id = announce(api, person, "a", claimed).json()["id"]

    answers = [
        put(api, person, attachment_id, content),
        upload_directly(api, person, content, "a", claimed),
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert stored_file_names() == before
    # The right bytes are still accepted, and no other file was stored.
    assert Attachment.objects.owned_by(person.user_id).filter(file="").count() == 1


def test_a_file_over_the_limit_is_refused_with_any_announced_size(small: Api, person: Person) -> None:
    before = stored_file_names()
    too_long = b"a" * (LIMIT + 1)
    attachment_id = announce(small, person, "a.txt", "text/plain", size=5).json()["id"]
    in_pieces = (too_long[start : start + 5000] for start in range(0, len(too_long), 5000))

    answers = [
        put(small, person, attachment_id, too_long),
        put(small, person, attachment_id, in_pieces),
        upload_directly(small, person, too_long, "a.txt", "text/plain"),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["message"]) == (413, "The file is larger than 0.2 MB")
    assert stored_file_names() == before
    assert put(small, person, attachment_id, too_long[:-1]).status_code == 200


def test_an_endless_body_is_cut_off_before_authentication(small: Api) -> None:
    host, port = "localhost", int(small.origin.rpartition(":")[2])
    with socket.create_connection((host, port), timeout=20) as client:
        client.sendall(
            b"POST /support/attachments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        answer = b""
        for _ in range((LIMIT + 65536) // 10_000 + 1):
            client.sendall(b"2710\r\n" + b"a" * 10_000 + b"\r\n")
        while b"}" not in answer and (more := client.recv(4096)):
            answer += more

    assert answer.startswith(b"HTTP/1.1 413 ")
    response = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert response["message"] == f"The request body exceeds {LIMIT + 65536} bytes"


def test_a_page_can_read_the_refusal_of_a_body_that_is_too_long_and_the_log_has_it(
    small: Api,
) -> None:
    headers = {"Origin": PAGE_ORIGIN, "X-Request-ID": "much-too-long"}

    answer = http.post(f"{small.origin}/support/attachments", content=b"a" * (LIMIT + 65537), headers=headers)

    assert answer.status_code == 413
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert answer.headers["X-Request-ID"] == "much-too-long"
    assert f"{HTTPStatus(413).phrase}: /support/attachments" in small.log.read_text()


def test_a_chunked_request_to_chatkit_has_the_same_limit_as_others(small: Api, person: Person) -> None:
    body = json.dumps(create("a" * 110_000)).encode()

    whole = small.post(body, person.token())
    chunked = http.post(small.url, content=iter([body]), headers=bearer(person))

    assert (whole.status_code, chunked.status_code) == (413, 413)
    assert whole.json() == chunked.json()


@pytest.mark.parametrize("said", [100, 10_000_000], ids=["too little", "too much"])
def test_a_wrong_content_length_does_not_get_around_the_limit(small: Api, person: Person, said: int) -> None:
    before = stored_file_names()
    attachment_id = announce(small, person, "a.txt", "text/plain").json()["id"]
    host, port = "localhost", int(small.origin.rpartition(":")[2])
    with socket.create_connection((host, port), timeout=20) as client:
        client.sendall(
            f"PUT /support/attachments/{attachment_id}/upload HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {person.token()}\r\nContent-Length: {said}\r\n\r\n".encode()
        )
        client.sendall(PNG * 20)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass

    assert not Attachment.objects.get(attachment_id=attachment_id).file
    assert stored_file_names() == before


BOUNDARY = "----limit"
HEAD = b'------limit\r\nContent-Disposition: form-data; name="%s"; filename="a.txt"\r\n\r\n'
FORMS = [
    pytest.param(HEAD % b"file" + b"Hello", id="breaks off"),
    pytest.param(HEAD % b"file" + b"Hello" * 50_000, id="breaks off late"),
    pytest.param(HEAD % b"picture" + b"Hello\r\n------limit--\r\n", id="another field"),
    pytest.param(
        HEAD % b"file" + b"Hello\r\n" + HEAD % b"file" + b"Hello\r\n------limit--\r\n", id="two files"
    ),
    pytest.param(b'------limit\r\nContent-Disposition: form-data; name="file"\r\n\r\nHi\r\n', id="no file"),
    pytest.param(b"", id="empty"),
    pytest.param(os.urandom(500), id="noise"),
]


@pytest.mark.parametrize("body", FORMS)
def test_a_form_that_is_broken_or_has_not_exactly_one_file_is_refused(
    api: Api, person: Person, body: bytes
) -> None:
    before = stored_file_names()
    attachment_id = announce(api, person, "a.txt", "text/plain").json()["id"]
    headers = bearer(person) | {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    answers = [
        http.post(f"{api.origin}/support/attachments{path}", content=body, headers=headers)
        for path in (f"/{attachment_id}/upload", "")
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert stored_file_names() == before


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_direct_upload_has_to_be_a_form(api: Api, person: Person, content_type: str) -> None:
    headers = bearer(person) | {"Content-Type": content_type}

    response = http.post(f"{api.origin}/support/attachments", content=b"{}", headers=headers)

    assert response.status_code in (400, 415)
    assert response.json()["status"] == response.status_code
