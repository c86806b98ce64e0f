"""The signed URLs of attachments: for whom they are valid and how they begin."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.files import signed_urls
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import NOT_FOUND, PNG, announce, attach, bearer, message_request, put, send
from tests.fixtures.servers.api import Api, http, operation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def move_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Returns a function that moves the clock of the signed URLs by some seconds."""
    real = time.time

    def move(seconds: float) -> None:
        monkeypatch.setattr(signed_urls.time, "time", lambda: real() + seconds)

    return move


def signed_url(api: Api, user_id: str, attachment_id: str) -> str:
    address = urlsplit(str(signed_urls.content_url(user_id, attachment_id)))
    return f"{api.origin}{address.path}?{address.query}"


def test_a_signed_url_is_valid_for_one_attachment_of_one_owner_and_some_minutes(
    api: Api, person: Person, other_person: Person, move_clock: Callable[[float], None]
) -> None:
    attachment_id, other_id, waiting = (
        attach(api, person)["id"],
        attach(api, person)["id"],
        announce(api, person).json()["id"],
    )
    good = signed_url(api, person.user_id, attachment_id)
    signature = good.partition("signature=")[2]
    move_clock(-700)
    expired = signed_url(api, person.user_id, attachment_id)
    move_clock(-250)
    older = signed_url(api, person.user_id, attachment_id)
    bad = [
        expired,
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good.partition("?")[0],
        good.partition("?")[0] + "?signature=",
        good.partition("?")[0] + "?signature=%00%FF%ED%A0%80:::",
        good.partition("?")[0] + "?signature=" + "x" * 5000,
        f"{api.origin}/support/attachments/{other_id}/content?signature={signature}",
        f"{api.origin}/support/attachments/atc_x/content?signature={signature}",
        signed_url(api, other_person.user_id, attachment_id),
        signed_url(api, person.user_id, "atc_never_was"),
        signed_url(api, person.user_id, waiting),
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
        events = proxied.events(message_request(announced["id"]), person.token())

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
