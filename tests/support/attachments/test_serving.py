"""How an attachment's file is served: its headers, its encoding and its bytes."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import HTML, PDF, PNG, TEXT, WESTERN, attach, content_url
from tests.fixtures.environment import PAGE_ORIGIN
from tests.fixtures.servers.api import Api, http, operation

pytestmark = pytest.mark.django_db(transaction=True)


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
