"""A team's own ChatKit server, context and settings."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from rest_framework.request import Request

from authn.authentication import BetterAuthJWTAuthentication
from support.chat.configured_server import chatkit_server
from support.context import build
from support.views import ChatKitView
from tests.fixtures.accounts.people import Person
from tests.fixtures.chatkit.servers import EchoServer
from tests.fixtures.servers.api import create, http, operation


def test_a_server_for_another_framework_works_unchanged(
    person: Person, start_api: Callable[..., Any]
) -> None:
    with start_api(
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.EchoServer",
        CHATKIT_CONTEXT="tests.fixtures.chatkit.servers.build_dict",
    ) as api:
        events = api.events(create(), person.token())
        listed = api.post(operation("threads.list"), person.token()).json()
        attach = api.post(
            operation("attachments.create", name="a.png", size=1, mime_type="image/png"), person.token()
        )
        headers = {"Authorization": f"Bearer {person.token()}"}
        upload = http.post(f"{api.origin}/support/attachments", headers=headers, files={"file": b"Hello"})

    assert events[-1]["item"]["content"][0]["text"] == f"Hello {person.name}, {person.user_id}"
    assert [thread["id"] for thread in listed["data"]] == [events[0]["thread"]["id"]]
    assert (attach.status_code, upload.status_code) == (501, 501)  # it has no attachment store


@pytest.mark.parametrize("named", ["EchoServer", "make_echo_server", "echo_server"])
def test_chatkit_server_names_a_class_a_factory_or_an_instance_and_is_made_once(
    settings: Any, named: str
) -> None:
    settings.CHATKIT_SERVER = f"tests.fixtures.chatkit.servers.{named}"

    assert isinstance(chatkit_server(), EchoServer)
    assert chatkit_server() is chatkit_server()


def test_a_factory_that_returns_no_server_is_an_error(settings: Any) -> None:
    settings.CHATKIT_SERVER = "tests.fixtures.chatkit.servers.MemoryStore"

    with pytest.raises(ImproperlyConfigured, match="MemoryStore gives no ChatKitServer"):
        chatkit_server()


@pytest.mark.usefixtures("db")
def test_a_wsgi_server_does_not_stream_even_if_the_project_keeps_its_mail_in_memory(
    rf: Any, person: Person
) -> None:
    # The e-mail backend "locmem" makes ``mail.outbox``, as Django's test runner does.
    assert hasattr(mail, "outbox")
    asked = rf.post(
        *("/support/chatkit", json.dumps(create())),
        content_type="application/json",
        HTTP_AUTHORIZATION=f"Bearer {person.token()}",
    )

    response = ChatKitView.as_view()(asked)

    assert (response.status_code, response.data["error"]) == (501, "The assistant needs an ASGI server")


def test_the_default_context_has_the_callers_data(rf: Any, person: Person, db: None) -> None:
    asked = rf.post(
        "/", HTTP_AUTHORIZATION=f"Bearer {person.token()}", HTTP_ACCEPT_LANGUAGE="de-CH;q=0.8, pt-BR, *;q=0.1"
    )
    asked.request_id = "r-1"

    context = build(Request(asked, authenticators=[BetterAuthJWTAuthentication()]))

    assert context.user_id == context.user.id == context.session.user_id == person.user_id
    assert context.claims.email == person.email
    assert (context.locale, context.request_id) == ("pt-br", "r-1")


@pytest.mark.parametrize("header", ["", "*", ";;;", "x" * 10_000, "en-" * 500])
def test_an_invalid_accept_language_gives_no_locale(rf: Any, person: Person, db: None, header: str) -> None:
    asked = rf.post("/", HTTP_AUTHORIZATION=f"Bearer {person.token()}", HTTP_ACCEPT_LANGUAGE=header)

    assert len(build(Request(asked, authenticators=[BetterAuthJWTAuthentication()])).locale) < 20
