"""Fixtures: Chromium and the whole local stack, which is the page, Better Auth, our server and PostgreSQL.

While the browser runs, no test here may use Django's ORM: Playwright runs an event loop in the thread of the
tests, and Django refuses queries in such a thread.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User as Staff
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from psycopg import sql
from pytest_django import DjangoDbBlocker

from chatbackend.dev.processes import free_port
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.session_tokens import COOKIE_NAME
from tests.fixtures.browser.stack import DESKTOP, Stack
from tests.fixtures.model.server import Model
from tests.fixtures.programs import program

# The last two give the pages a microphone that beeps.
CHROMIUM_OPTIONS = ["--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
RATE = 60  # requests per minute and user

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session", autouse=True)  # first, so that nothing starts if Chromium is missing
def chromium_program() -> str:
    return program("chromium-headless-shell")


@pytest.fixture(scope="package")
def stack(
    start_better_auth: Callable[..., Any],
    start_api: Callable[..., Any],
    running_model: Model,
    database_url: str,
) -> Iterator[Stack]:
    page_port, api_port = free_port(), free_port()
    page_origin, api_origin = f"http://localhost:{page_port}", f"http://localhost:{api_port}"
    chatkit_url = f"{api_origin}/support/chatkit"
    our_server = partial(
        start_api,
        port=api_port,
        BETTER_AUTH_URL=page_origin,
        CORS_ALLOWED_ORIGINS=page_origin,
        CHATKIT_SERVER="tests.fixtures.chatkit.talking_server.TalkingServer",
        ATTACHMENT_MAX_BYTES="1000000",
        SUPPORT_RATE_PER_USER=f"{RATE}/min",
        # TalkingServer asks the model only if a test says so.
        SUPPORT_MODEL="model-of-the-tests",
        SUPPORT_TOOLS="tests.fixtures.shop.tools",
        OPENAI_API_KEY="the-key-of-the-model",
        OPENAI_BASE_URL=running_model.base_url,
    )
    # The page offers these. TalkingServer takes any model, and has its own dictation.
    offered = {"SUPPORT_MODELS": "gpt-5-mini,gpt-5", "SUPPORT_TRANSCRIPTION_MODEL": "whisper-1"}
    page = {"BETTER_AUTH_URL": page_origin, "CHATKIT_URL": chatkit_url} | offered
    page |= {"BETTER_AUTH_PLUGINS": "oauth-provider", "OAUTH_TOOL_SCOPES": "todo:write"}
    with start_better_auth(page_port, **page) as auth:
        stack = Stack(auth, our_server)
        with stack.running:
            stack.start()
            yield stack
            stack.running.close()
    drop_oauth_tables(database_url)


def drop_oauth_tables(database_url: str) -> None:
    """Remove the tables of the plugin that only this Better Auth has. Other tests share the database."""
    with psycopg.connect(database_url) as database:
        found = database.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'oauth%'").fetchall()
        for (name,) in found:
            database.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture(scope="package")
def staff_cookie(database_url: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The admin's session cookie of a superuser."""
    client = Client()
    with django_db_blocker.unblock():
        superuser = Staff.objects.create_superuser("iris")
        client.force_login(superuser)
    yield client.cookies["sessionid"].value
    with django_db_blocker.unblock():
        superuser.delete()


@pytest.fixture(scope="package")
def chromium(chromium_program: str, stack: Stack, staff_cookie: str) -> Iterator[Browser]:
    """A running Chromium. It takes the fixtures that use the ORM as parameters, so that they run first."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_program, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page in a new browser context. The options are those of Playwright's ``new_context``.

    The test fails at its end if a page raised an exception or violated its Content-Security-Policy.
    """
    faults: list[str] = []

    with ExitStack() as contexts:

        def new_page(**options: Any) -> Page:
            context = chromium.new_context(**{"viewport": DESKTOP} | options)
            contexts.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.extend(_violations(message)))
            return page

        yield new_page
    assert faults == []


@pytest.fixture
def open_page(new_page: Callable[..., Page], stack: Stack) -> Callable[..., Page]:
    """Open the chat page, signed out or signed in as ``person``."""

    def open_page(person: Person | None = None, address: str = "/", **options: Any) -> Page:
        page = new_page(base_url=stack.auth.origin, **options)
        if person:
            cookie = {"name": COOKIE_NAME, "value": person.cookie, "httpOnly": True}
            page.context.add_cookies([cookie | {"url": stack.auth.origin}])  # type: ignore[list-item]
        page.goto(address)
        if person:
            expect(page.locator("#thread-list")).to_have_attribute("aria-busy", "false")
        return page

    return open_page


def _violations(message: ConsoleMessage) -> list[str]:
    """Violations of the Content-Security-Policy. The browser reports them only in the console."""
    return [message.text] if "Content Security Policy" in message.text else []


@pytest.fixture
def visitor(stack: Stack) -> Person:
    """A new user of the page, signed in."""
    return stack.auth.sign_up()
