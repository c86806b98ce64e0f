"""Attachments over HTTP, with a real server: upload, sending, reading, deletion and refusals."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from PIL import Image

from support.attachments.store import safe_name
from support.files import signed_urls, stored_files
from support.models import Attachment, Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import ATTACHMENT_DIRECTORY, PAGE_ORIGIN
from tests.fixtures.servers.api import Api, add, create, eventually, http, operation

pytestmark = pytest.mark.django_db(transaction=True)

NOT_FOUND = {"error": "Not found", "status": 404, "message": "Not found"}
LIMIT = 200_000  # bytes; the limit of the server ``small``


def image(kind: str = "PNG", size: int = 8) -> bytes:
    content = BytesIO()
    Image.effect_noise((size, size), 50).convert("RGB").save(content, kind)
    return content.getvalue()


PNG, PDF, TEXT = image(), b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "Grüezi ✓\n\tline two\r\n".encode()
JPEG = image("JPEG")
HTML = b"<!doctype html><script>fetch('/support/chatkit')</script>"
OFFICE = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 16 + b"\x3e\0\x03\0\xfe\xff\x09\0"  # an .xls file
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture(scope="module")
def small(start_api: Callable[..., Any], auth: Any) -> Iterator[Api]:
    """A server with small limits and without a PUBLIC_URL."""
    with start_api(
        ATTACHMENT_MAX_BYTES=str(LIMIT),
        ATTACHMENT_TYPES="image/png,text/plain,text/csv",
        DATA_UPLOAD_MAX_MEMORY_SIZE="100000",
        PUBLIC_URL="",
        SUPPORT_RATE_PER_USER="100000/min",
    ) as running:
        yield running


# --- Requests of a client -------------------------------------------------------------------------


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token()}"}


def announce(
    api: Api, person: Person, name: str = "a.png", mime_type: str = "image/png", size: int = 1
) -> Any:
    body = operation("attachments.create", name=name, size=size, mime_type=mime_type)
    return api.post(body, person.token())


def put(api: Api, person: Person, attachment_id: str, content: Any, method: str = "PUT") -> httpx2.Response:
    url = f"{api.origin}/support/attachments/{attachment_id}/upload"
    return http.request(method, url, content=content, headers=bearer(person), timeout=30)


def attach(
    api: Api, person: Person, content: bytes = PNG, name: str = "a.png", mime_type: str = "image/png"
) -> dict[str, Any]:
    """Announce a file and upload it."""
    attachment_id = announce(api, person, name, mime_type).json()["id"]
    response = put(api, person, attachment_id, content)
    assert response.status_code == 200, response.text
    return dict(response.json())


def direct(api: Api, person: Person, content: bytes, name: str, mime_type: str) -> httpx2.Response:
    form = {"file": (name, content, mime_type)}
    return http.post(f"{api.origin}/support/attachments", files=form, headers=bearer(person))


def sending(*attachment_ids: str, thread_id: str = "") -> dict[str, Any]:
    body = add(thread_id, "Look") if thread_id else create("Look")
    body["params"]["input"]["attachments"] = list(attachment_ids)
    return body


def send(api: Api, person: Person, *attachment_ids: str, thread_id: str = "") -> str:
    events = api.events(sending(*attachment_ids, thread_id=thread_id), person.token())
    assert "error" not in [event["type"] for event in events]
    return thread_id or str(events[0]["thread"]["id"])


def items_of(api: Api, person: Person, thread_id: str) -> list[dict[str, Any]]:
    body = operation("items.list", thread_id=thread_id, order="asc")
    return list(api.post(body, person.token()).json()["data"])


def content_url(api: Api, person: Person, attachment_id: str) -> str:
    response = http.get(f"{api.origin}/support/attachments/{attachment_id}", headers=bearer(person))
    return str(response.json()["content_url"])


def stored() -> set[str]:
    return {path.name for path in Path(ATTACHMENT_DIRECTORY).rglob("*") if path.is_file()}


def row(attachment: dict[str, Any]) -> Attachment:
    return Attachment.objects.get(attachment_id=attachment["id"])


# --- Two-phase and direct uploads -----------------------------------------------------------------


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
    attachment = direct(api, person, content, "a", mime_type).json()

    thread_id = send(api, person, attachment["id"])
    assert attachment["type"] == kind
    assert attachment["mime_type"] == mime_type.partition(";")[0].lower()
    assert "metadata" not in attachment
    assert "metadata" not in items_of(api, person, thread_id)[0]["attachments"][0]
    assert http.get(content_url(api, person, attachment["id"])).content == content


WESTERN = "Name;Preis\r\n„Grüße“ Ørsted;5 €\r\n"
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
        direct(api, person, content, name, announced).json(),
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


def test_a_text_is_served_in_its_own_encoding(api: Api, person: Person) -> None:
    texts = [attach(api, person, WESTERN.encode(each), "a.csv", "") for each in ("cp1252", "utf-16", "utf-8")]

    answers = [http.get(content_url(api, person, attachment["id"])) for attachment in texts]

    assert [answer.headers["Content-Type"].partition("charset=")[2] for answer in answers] == [
        "windows-1252",
        "utf-16le",
        "utf-8",
    ]


def test_a_file_that_is_both_html_and_pdf_is_served_as_a_pdf_download(api: Api, person: Person) -> None:
    content = HTML.ljust(1000) + PDF

    attachment = attach(api, person, content, "a.pdf", "application/pdf")

    headers = http.get(content_url(api, person, attachment["id"])).headers
    assert headers["Content-Type"] == "application/pdf"
    assert headers["Content-Disposition"].startswith("attachment;")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


def test_a_jpeg_with_more_pictures_after_it_is_a_jpeg(api: Api, person: Person) -> None:
    content = BytesIO()
    pictures = [Image.effect_noise((8, 8), 50).convert("RGB") for _ in range(2)]
    pictures[0].save(content, "MPO", save_all=True, append_images=pictures[1:])

    assert direct(api, person, content.getvalue(), "a.jpg", "image/jpeg").status_code == 200


# --- How a file is served -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name", "mime_type", "content_type", "disposition"),
    [
        (PNG, "a.png", "image/png", "image/png", 'inline; filename="a.png"'),
        (PDF, "a.pdf", "application/pdf", "application/pdf", 'attachment; filename="a.pdf"'),
        (HTML, "a.html", "text/plain", "text/plain; charset=utf-8", 'attachment; filename="a.html"'),
        (
            TEXT,
            "größe ✓.txt",
            "text/plain",
            "text/plain; charset=utf-8",
            "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe%20%E2%9C%93.txt",
        ),
        (TEXT, 'a"; b="c', "text/plain", "text/plain; charset=utf-8", r'attachment; filename="a\"; b=\"c"'),
    ],
)
def test_a_file_cannot_run_scripts_in_the_browser(
    api: Api, person: Person, content: bytes, name: str, mime_type: str, content_type: str, disposition: str
) -> None:
    attachment = attach(api, person, content, name, mime_type)

    response = http.get(content_url(api, person, attachment["id"]), headers={"Accept": "image/*"})

    assert (response.status_code, response.content) == (200, content)
    assert response.headers["Content-Type"] == content_type
    assert response.headers["Content-Disposition"] == disposition
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_a_page_can_read_and_upload_files_from_its_own_origin(api: Api, person: Person) -> None:
    attachment = attach(api, person)
    asked = {
        "Origin": PAGE_ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type",
    }

    read = http.get(attachment["preview_url"], headers={"Origin": PAGE_ORIGIN})
    preflight = http.options(f"{api.origin}/support/attachments/x/upload", headers=asked)

    assert read.headers["Access-Control-Allow-Origin"] in ("*", PAGE_ORIGIN)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]


def test_a_browser_caches_a_file_no_longer_than_its_url_is_valid(api: Api, person: Person) -> None:
    address = attach(api, person)["preview_url"]

    cache_control = http.get(address).headers["Cache-Control"]

    seconds = int(cache_control.removeprefix("private, max-age="))
    assert 290 <= seconds <= 600


def test_a_head_request_is_answered_without_the_bytes(api: Api, person: Person) -> None:
    response = httpx2.head(attach(api, person)["preview_url"])

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == str(len(PNG))


def test_a_large_file_comes_whole(api: Api, person: Person) -> None:
    content = "".join(f"{number}\n" for number in range(300_000)).encode()
    attachment = attach(api, person, content, "a.txt", "text/plain")

    assert http.get(content_url(api, person, attachment["id"])).content == content


def test_a_slow_reader_of_a_file_holds_no_database_connection(
    start_api: Callable[..., Any], person: Person
) -> None:
    with start_api(WORKER_THREADS="2") as tight, ExitStack() as readers:
        large = attach(tight, person, b"a" * 9_500_000, "a.txt", "text/plain")  # larger than the buffers
        address = urlsplit(content_url(tight, person, large["id"]))
        for _ in range(6):
            reader = readers.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            reader.connect(("localhost", address.port))
            reader.sendall(
                f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
            )
            assert reader.recv(15) == b"HTTP/1.1 200 OK"

        answer = tight.post(operation("threads.list"), person.token())

    assert answer.status_code == 200


# --- Refusals before the upload -------------------------------------------------------------------


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
        codes = [direct(slow, person, PNG, "a.png", "image/png").status_code for _ in range(3)]

    assert codes == [200, 200, 429]


# --- Refusals of uploaded bytes -------------------------------------------------------------------

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
    before = stored()
    attachment_id = announce(api, person, "a", claimed).json()["id"]

    answers = [
        put(api, person, attachment_id, content),
        direct(api, person, content, "a", claimed),
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert stored() == before
    # The right bytes are still accepted, and no other file was stored.
    assert Attachment.objects.owned_by(person.user_id).filter(file="").count() == 1


def test_a_file_over_the_limit_is_refused_with_any_announced_size(small: Api, person: Person) -> None:
    before = stored()
    too_long = b"a" * (LIMIT + 1)
    attachment_id = announce(small, person, "a.txt", "text/plain", size=5).json()["id"]
    in_pieces = (too_long[start : start + 5000] for start in range(0, len(too_long), 5000))

    answers = [
        put(small, person, attachment_id, too_long),
        put(small, person, attachment_id, in_pieces),
        direct(small, person, too_long, "a.txt", "text/plain"),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["message"]) == (413, "The file is larger than 0.2 MB")
    assert stored() == before
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
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["message"] == f"The request body exceeds {LIMIT + 65536} bytes"


def test_a_page_can_read_the_refusal_of_a_body_that_is_too_long_and_the_log_has_it(
    small: Api,
) -> None:
    headers = {"Origin": PAGE_ORIGIN, "X-Request-ID": "much-too-long"}

    answer = http.post(f"{small.origin}/support/attachments", content=b"a" * (LIMIT + 65537), headers=headers)

    assert answer.status_code == 413
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert answer.headers["X-Request-ID"] == "much-too-long"
    assert "Request Entity Too Large: /support/attachments" in small.log.read_text()


def test_a_chunked_request_to_chatkit_has_the_same_limit_as_others(small: Api, person: Person) -> None:
    body = json.dumps(create("a" * 110_000)).encode()

    whole = small.post(body, person.token())
    chunked = http.post(small.url, content=iter([body]), headers=bearer(person))

    assert (whole.status_code, chunked.status_code) == (413, 413)
    assert whole.json() == chunked.json()


@pytest.mark.parametrize("said", [100, 10_000_000], ids=["too little", "too much"])
def test_a_wrong_content_length_does_not_get_around_the_limit(small: Api, person: Person, said: int) -> None:
    before = stored()
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
    assert stored() == before


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
    before = stored()
    attachment_id = announce(api, person, "a.txt", "text/plain").json()["id"]
    headers = bearer(person) | {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    answers = [
        http.post(f"{api.origin}/support/attachments{path}", content=body, headers=headers)
        for path in (f"/{attachment_id}/upload", "")
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert stored() == before


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_a_direct_upload_has_to_be_a_form(api: Api, person: Person, content_type: str) -> None:
    headers = bearer(person) | {"Content-Type": content_type}

    response = http.post(f"{api.origin}/support/attachments", content=b"{}", headers=headers)

    assert response.status_code in (400, 415)
    assert response.json()["status"] == response.status_code


# --- Names ----------------------------------------------------------------------------------------


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
    assert stored_files.NAME.fullmatch(row(attachment).file)
    response = http.get(content_url(api, person, attachment["id"]))
    assert (response.status_code, "Set-Cookie" in response.headers) == (200, False)


def test_the_name_of_a_file_in_a_form_is_never_used_as_a_path(api: Api, person: Person) -> None:
    for name in ("../../etc/passwd", "a\\b\\passwd"):
        assert direct(api, person, TEXT, name, "text/plain").json()["name"] == "passwd"


def test_a_lone_surrogate_is_removed_from_the_name_of_a_file() -> None:
    assert safe_name("a\ud83d.png") == "a.png"


# --- Owners ---------------------------------------------------------------------------------------


def test_another_owners_attachment_is_not_found(api: Api, person: Person, other_person: Person) -> None:
    waiting, uploaded = announce(api, person).json()["id"], attach(api, person)["id"]
    token, mine = other_person.token(), send(api, other_person)

    def answers(attachment_id: str) -> list[tuple[int, Any]]:
        asked = [
            put(api, other_person, attachment_id, PNG),
            http.get(f"{api.origin}/support/attachments/{attachment_id}", headers=bearer(other_person)),
            api.post(operation("attachments.delete", attachment_id=attachment_id), token),
            api.post(sending(attachment_id), token),
            api.post(sending(attachment_id, thread_id=mine), token),
        ]
        return [(response.status_code, response.json()) for response in asked]

    assert answers("atc_x") == [(404, NOT_FOUND)] * 5
    assert answers(waiting) == answers(uploaded) == answers("atc_x")
    assert Thread.objects.owned_by(other_person.user_id).count() == 1
    assert len(items_of(api, other_person, mine)) == 2
    assert put(api, person, waiting, PNG).status_code == 200
    assert send(api, person, waiting, uploaded)


def test_an_id_of_any_shape_is_not_found(api: Api, person: Person) -> None:
    for attachment_id in ("a%00b", "x" * 3000, "%F0%9F%92%8D", "'; --"):
        url = f"{api.origin}/support/attachments/{attachment_id}"
        answers = [
            http.get(url, headers=bearer(person)),
            http.put(f"{url}/upload", content=PNG, headers=bearer(person)),
            http.get(f"{url}/content?signature=x"),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3, attachment_id


# --- Sending --------------------------------------------------------------------------------------


def test_a_message_with_an_attachment_that_was_not_uploaded_is_refused_and_changes_nothing(
    api: Api, person: Person
) -> None:
    thread_id, waiting = send(api, person), announce(api, person).json()["id"]

    answers = [
        api.post(sending(waiting), person.token()),
        api.post(sending(waiting, thread_id=thread_id), person.token()),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["message"]) == (
            400,
            "An attachment has not been uploaded yet",
        )
    assert Thread.objects.owned_by(person.user_id).count() == 1
    assert len(items_of(api, person, thread_id)) == 2


def test_an_attachment_of_several_threads_exists_until_the_last_of_them_is_deleted(
    api: Api, person: Person
) -> None:
    attachment = attach(api, person)
    file = row(attachment).file
    threads = [send(api, person, attachment["id"]) for _ in range(3)]
    send(api, person, attachment["id"], thread_id=threads[0])

    there = []
    for thread_id in (threads[1], threads[2], threads[0]):
        api.post(operation("threads.delete", thread_id=thread_id), person.token())
        there.append(http.get(attachment["preview_url"]).status_code)

    assert there == [200, 200, 404]
    assert not stored_files.storage().exists(file)


def test_an_attachment_can_be_sent_to_two_threads_at_the_same_time(api: Api, person: Person) -> None:
    attachment_id, token = attach(api, person)["id"], person.token()
    threads = [send(api, person), send(api, person)]
    with ThreadPoolExecutor(2) as clients:
        answers = [
            clients.submit(api.post, sending(attachment_id, thread_id=thread_id), token)
            for thread_id in threads
        ]

    assert [answer.result().status_code for answer in answers] == [200, 200]
    for thread_id in threads:
        assert [part["id"] for part in items_of(api, person, thread_id)[2]["attachments"]] == [attachment_id]


def test_a_message_carries_each_attachment_once_and_at_most_ten(api: Api, person: Person) -> None:
    ten = [attach(api, person)["id"] for _ in range(10)]

    answers = [api.post(sending(*ids), person.token()) for ids in ([ten[0]] * 2, [*ten, "atc_x"])]

    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["message"] == "A message carries up to 10 attachments, each once"
    thread_id = send(api, person, *ten)
    sent = items_of(api, person, thread_id)[0]["attachments"]
    assert [attachment["id"] for attachment in sent] == ten


# --- Repeated and concurrent uploads --------------------------------------------------------------


def test_an_uploaded_file_cannot_be_replaced(api: Api, person: Person) -> None:
    attachment, before = attach(api, person), stored()

    again = put(api, person, attachment["id"], image())

    assert (again.status_code, again.json()["message"]) == (409, "This attachment has been uploaded already")
    assert http.get(attachment["preview_url"]).content == PNG
    assert stored() == before


def test_a_client_can_repeat_an_upload_if_it_lost_the_response(api: Api, person: Person) -> None:
    attachment, before = attach(api, person), stored()

    again = put(api, person, attachment["id"], PNG)

    assert (again.status_code, again.json()) == (200, attachment)
    assert stored() == before


def test_of_concurrent_uploads_of_an_attachment_only_one_is_stored(
    api: Api, person: Person, database_url: str
) -> None:
    attachment_id, before = announce(api, person).json()["id"], stored()
    contents = [image() for _ in range(4)]
    with psycopg.connect(database_url) as elsewhere, ThreadPoolExecutor(len(contents)) as clients:
        elsewhere.execute(
            "SELECT id FROM support_attachment WHERE attachment_id = %s FOR UPDATE", [attachment_id]
        )
        uploads = [clients.submit(put, api, person, attachment_id, content) for content in contents]
        # All uploads have stored their files and wait for the row's lock.
        eventually(lambda: len(stored() - before), lambda new: new == len(contents))

        elsewhere.commit()

        answers = [upload.result() for upload in uploads]
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 3]
    (winner,) = [content for content, answer in zip(contents, answers, strict=True) if answer.is_success]
    assert http.get(content_url(api, person, attachment_id)).content == winner
    assert len(stored() - before) == 1


@pytest.mark.parametrize("what", ["the attachment", "its thread"])
def test_an_upload_to_an_attachment_that_is_deleted_meanwhile_leaves_no_file(
    api: Api, person: Person, database_url: str, what: str
) -> None:
    attachment_id, before = announce(api, person).json()["id"], stored()
    thread = Thread.objects.get(thread_id=send(api, person))
    if what == "its thread":  # a team's store may set the thread before the upload
        Attachment.objects.filter(attachment_id=attachment_id).update(thread=thread)
    with psycopg.connect(database_url) as deletion, ThreadPoolExecutor(1) as client:
        if what == "its thread":
            deletion.execute("DELETE FROM support_item WHERE thread_id = %s", [thread.pk])
        deletion.execute("DELETE FROM support_attachment WHERE attachment_id = %s", [attachment_id])
        upload = client.submit(put, api, person, attachment_id, PNG)
        eventually(
            lambda: len(stored() - before), lambda new: new == 1
        )  # its file is stored, and it waits for the row's lock

        deletion.commit()

        assert (upload.result().status_code, upload.result().json()) == (404, NOT_FOUND)
    assert stored() == before


# --- Deleting -------------------------------------------------------------------------------------


def test_deleting_an_attachment_deletes_its_file(api: Api, person: Person) -> None:
    attachment, waiting = attach(api, person), announce(api, person).json()
    file = row(attachment).file

    answers = [
        api.post(operation("attachments.delete", attachment_id=attachment_id), person.token())
        for attachment_id in (attachment["id"], waiting["id"], attachment["id"])
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert not Attachment.objects.owned_by(person.user_id).exists()
    assert not stored_files.storage().exists(file)
    assert http.get(attachment["preview_url"]).status_code == 404


def test_deleting_a_thread_deletes_only_the_files_of_its_messages(api: Api, person: Person) -> None:
    gone, kept, unsent = (attach(api, person) for _ in range(3))
    thread_id = send(api, person, gone["id"])
    send(api, person, kept["id"])
    file = row(gone).file

    response = api.post(operation("threads.delete", thread_id=thread_id), person.token())

    assert response.status_code == 200
    assert not stored_files.storage().exists(file)
    assert not Attachment.objects.filter(attachment_id=gone["id"]).exists()
    statuses = [http.get(each["preview_url"]).status_code for each in (gone, kept, unsent)]
    assert statuses == [404, 200, 200]


def test_another_user_can_delete_neither_thread_nor_file(
    api: Api, person: Person, other_person: Person
) -> None:
    attachment = attach(api, person)
    thread_id = send(api, person, attachment["id"])

    api.post(operation("threads.delete", thread_id=thread_id), other_person.token())

    assert http.get(attachment["preview_url"]).content == PNG


def test_a_file_that_cannot_be_deleted_is_logged_and_the_request_succeeds(api: Api, person: Person) -> None:
    attachment = attach(api, person, name="my diagnosis.png")
    thread_id, file = send(api, person, attachment["id"]), row(attachment).file
    path = Path(stored_files.storage().path(file))
    path.unlink()
    (path / "not empty").mkdir(parents=True)

    response = api.post(operation("threads.delete", thread_id=thread_id), person.token())

    assert response.status_code == 200
    assert not Thread.objects.owned_by(person.user_id).exists()
    assert f"A file could not be deleted: {file}" in api.log.read_text()
    assert "diagnosis" not in api.log.read_text()
    (path / "not empty").rmdir()
    path.rmdir()


# --- Signed URLs ----------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Returns a function that moves the clock of the signed URLs by some seconds."""
    real = time.time

    def turn(seconds: float) -> None:
        monkeypatch.setattr(signed_urls.time, "time", lambda: real() + seconds)

    return turn


def address_of(api: Api, user_id: str, attachment_id: str) -> str:
    address = urlsplit(str(signed_urls.content_url(user_id, attachment_id)))
    return f"{api.origin}{address.path}?{address.query}"


def test_a_signed_url_is_valid_for_one_attachment_of_one_owner_and_some_minutes(
    api: Api, person: Person, other_person: Person, clock: Callable[[float], None]
) -> None:
    attachment_id, other_id, waiting = (
        attach(api, person)["id"],
        attach(api, person)["id"],
        announce(api, person).json()["id"],
    )
    good = address_of(api, person.user_id, attachment_id)
    signature = good.partition("signature=")[2]
    clock(-700)
    expired = address_of(api, person.user_id, attachment_id)
    clock(-250)
    older = address_of(api, person.user_id, attachment_id)
    bad = [
        expired,
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good.partition("?")[0],
        good.partition("?")[0] + "?signature=",
        good.partition("?")[0] + "?signature=%00%FF%ED%A0%80:::",
        good.partition("?")[0] + "?signature=" + "x" * 5000,
        f"{api.origin}/support/attachments/{other_id}/content?signature={signature}",
        f"{api.origin}/support/attachments/atc_x/content?signature={signature}",
        address_of(api, other_person.user_id, attachment_id),
        address_of(api, person.user_id, "atc_never_was"),
        address_of(api, person.user_id, waiting),
    ]

    answers = [http.get(address) for address in bad]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(404, NOT_FOUND)] * len(bad)
    assert len({str(sorted(set(answer.headers) - {"x-request-id"})) for answer in answers}) == 1
    assert [http.get(address).content for address in (good, older)] == [PNG, PNG]


def test_a_token_does_not_replace_the_signature_of_a_url(api: Api, person: Person) -> None:
    attachment_id = attach(api, person)["id"]

    url = f"{api.origin}/support/attachments/{attachment_id}/content"

    assert http.get(url, headers=bearer(person)).status_code == 404


def test_a_signature_made_for_another_purpose_is_not_valid(api: Api, person: Person) -> None:
    from django.core.signing import Signer

    attachment_id = attach(api, person)["id"]
    elsewhere = Signer(salt="elsewhere").sign_object([person.user_id, attachment_id, time.time() + 99])

    url = f"{api.origin}/support/attachments/{attachment_id}/content"

    assert http.get(url, params={"signature": elsewhere}).status_code == 404


def test_the_log_has_no_signature_and_no_file_name(api: Api, person: Person) -> None:
    attachment = attach(api, person, name="my diagnosis.png")
    signature = attachment["preview_url"].partition("signature=")[2]
    http.get(attachment["preview_url"])
    http.get(attachment["preview_url"].replace(attachment["id"], "atc_x"))

    log = api.log.read_text()
    assert "diagnosis" not in log
    assert signature not in log


def test_urls_begin_with_the_public_url_and_not_with_the_host_header(
    start_api: Callable[..., Any], person: Person
) -> None:
    with start_api(PUBLIC_URL="https://api.example.com/chat/") as proxied:
        headers = {"Host": "127.0.0.1", "X-Forwarded-Host": "evil.example"}
        body = operation("attachments.create", name="a.png", size=1, mime_type="image/png")
        announced = proxied.post(body, person.token(), **headers).json()
        put(proxied, person, announced["id"], PNG)
        events = proxied.events(sending(announced["id"]), person.token())

    base = f"https://api.example.com/chat/support/attachments/{announced['id']}"
    assert announced["upload_descriptor"]["url"] == f"{base}/upload"
    assert announced["preview_url"].startswith(f"{base}/content?signature=")
    sent = next(event["item"] for event in events if event["type"] == "thread.item.done")
    assert sent["attachments"][0]["preview_url"].startswith(f"{base}/content?signature=")


def test_without_a_public_url_urls_begin_with_the_host_of_the_request_if_it_is_allowed(
    small: Api, person: Person
) -> None:
    attachment = attach(small, person)
    thread_id = send(small, person, attachment["id"])
    body = operation("attachments.create", name="a.png", size=1, mime_type="image/png")

    evil = small.post(body, person.token(), Host="evil.example")

    assert evil.status_code == 400
    assert attachment["preview_url"].startswith(f"{small.origin}/support/attachments/")
    listed = operation("items.list", thread_id=thread_id, order="asc")
    port = small.origin.rpartition(":")[2]
    there = small.post(listed, person.token(), Host=f"127.0.0.1:{port}").json()["data"][0]
    assert there["attachments"][0]["preview_url"].startswith(f"http://127.0.0.1:{port}/support/")
