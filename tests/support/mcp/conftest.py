"""Requests to the MCP endpoint of this process, and a real server of ours with the endpoint."""

import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import clear_url_caches

from chatbackend import urls as project_urls
from support import urls
from support.mcp import well_known
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.oauth.better_auth import OAUTH_PLUGINS
from tests.fixtures.oauth.mcp_requests import SHOP, STREAMS_PER_USER, WORKER_THREADS, Send
from tests.fixtures.servers.api import Api


@pytest.fixture(scope="package", autouse=True)
def _endpoint() -> Iterator[None]:
    """Add the endpoint to the URLs of this process: they depend on a setting, and are read once."""
    with override_settings(
        SUPPORT_MCP=True,
        SUPPORT_MCP_URL="https://api.example.com/support/mcp",
        SUPPORT_MCP_ACCEPT_SESSION_TOKENS=True,
        SUPPORT_TOOLS=[SHOP],
        BETTER_AUTH_PLUGINS=["oauth-provider"],
    ):
        _read_urls_again()
        yield
    _read_urls_again()


def _read_urls_again() -> None:
    for module in (urls, well_known, project_urls):
        importlib.reload(module)
    clear_url_caches()


@pytest.fixture(scope="module")
def caller(auth: BetterAuth) -> Person:
    """One user for all tests of a module. A sign-up would take longer than most of them."""
    return auth.sign_up()


@pytest.fixture(scope="module")
def token(caller: Person) -> str:
    return caller.token()


@pytest.fixture
def send(token: str) -> Send:
    """Send a body to the endpoint, by default with the token of ``caller``."""

    def post(body: Any, credential: str = token, **options: Any) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {credential}"} | options.pop("headers", {})
        known = {"content_type": "application/json", "headers": headers}
        return Client(raise_request_exception=False).post("/support/mcp", content, **known | options)

    return post


# --- A server -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mcp_api(
    start_assistant: Callable[..., Any], oauth_auth: BetterAuth, oauth_database_url: str, mcp_port: int
) -> Iterator[Api]:
    """Our server with a scripted model, for the users of ``oauth_auth``."""
    with start_assistant(
        port=mcp_port,
        SUPPORT_MCP="True",
        SUPPORT_TOOLS=f"{SHOP},{SHOP}.add_todo_if_approved",
        SUPPORT_STREAMS_PER_USER=str(STREAMS_PER_USER),
        WORKER_THREADS=str(WORKER_THREADS),
        BETTER_AUTH_DATABASE_URL=oauth_database_url,
        BETTER_AUTH_URL=oauth_auth.origin,
        BETTER_AUTH_PLUGINS=OAUTH_PLUGINS,
    ) as running:
        yield running
