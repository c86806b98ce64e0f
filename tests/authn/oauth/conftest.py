"""Fixtures: a server with endpoints for OAuth clients, and clients of Better Auth."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.code_blocks import TOP
from tests.fixtures.oauth.better_auth import OAUTH_PLUGINS
from tests.fixtures.oauth.clients import OAuthClient, Tokens
from tests.fixtures.oauth.endpoint import Endpoint

PAGE = (TOP / "docs/compatibility.md").read_text()
ROLE, _, GRANTS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)[:3]


@pytest.fixture
def oauth_grants() -> str:
    """The statements of docs/compatibility.md."""
    return GRANTS


@pytest.fixture(scope="session")
def oauth_environment(oauth_auth: BetterAuth, oauth_database_url: str) -> dict[str, str]:
    """The variables of a server that reads Better Auth's tables with the role of docs/compatibility.md."""
    with psycopg.connect(oauth_database_url) as database:
        for statements in (ROLE, GRANTS):
            database.execute(statements.replace("chatbackend_reader", "oauth_reader"))
    _, _, host = oauth_database_url.partition("//")[2].rpartition("@")
    return {
        "BETTER_AUTH_DATABASE_URL": f"postgresql://oauth_reader:a-password-of-its-own@{host}",
        "BETTER_AUTH_URL": oauth_auth.origin,
        "BETTER_AUTH_PLUGINS": OAUTH_PLUGINS,
    }


@pytest.fixture(scope="session")
def start_endpoint(mcp_resource: str, start_api: Callable[..., Any]) -> Callable[..., Any]:
    """Start a server with endpoints for OAuth clients."""

    @contextmanager
    def start(database_url: str, **env: str) -> Iterator[Endpoint]:
        with start_api(
            "tests.fixtures.oauth.endpoint_server:application",
            DJANGO_SETTINGS_MODULE="tests.fixtures.oauth.endpoint_settings",
            RESOURCE=mcp_resource,
            NUM_PROXIES="1",
            **env,
        ) as running:
            yield Endpoint(running, mcp_resource, database_url)

    return start


@pytest.fixture(scope="session")
def endpoint(
    oauth_environment: dict[str, str], oauth_database_url: str, start_endpoint: Callable[..., Any]
) -> Iterator[Endpoint]:
    with start_endpoint(oauth_database_url, **oauth_environment) as running:
        yield running


@pytest.fixture(scope="session")
def client_of_all(oauth_auth: BetterAuth) -> OAuthClient:
    """A client that has registered itself. It has no secret."""
    return OAuthClient.register(oauth_auth)


@pytest.fixture
def user(oauth_auth: BetterAuth) -> Person:
    return oauth_auth.sign_up()


@pytest.fixture
def tokens(client_of_all: OAuthClient, user: Person, endpoint: Endpoint) -> Tokens:
    """Of ``user``, for the endpoint."""
    return client_of_all.authorize(user, endpoint.resource)
