"""Fixtures: a server with endpoints for OAuth clients, and clients of Better Auth."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.oauth.better_auth import OAUTH_PLUGINS
from tests.fixtures.oauth.clients import OAuthClient, Tokens
from tests.fixtures.oauth.endpoint import Endpoint


@pytest.fixture(scope="session")
def endpoint(
    oauth_auth: BetterAuth, oauth_database_url: str, mcp_resource: str, start_api: Callable[..., Any]
) -> Iterator[Endpoint]:
    with start_api(
        "tests.fixtures.oauth.endpoint_server:application",
        DJANGO_SETTINGS_MODULE="tests.fixtures.oauth.endpoint_settings",
        BETTER_AUTH_DATABASE_URL=oauth_database_url,
        BETTER_AUTH_URL=oauth_auth.origin,
        BETTER_AUTH_PLUGINS=OAUTH_PLUGINS,
        RESOURCE=mcp_resource,
    ) as running:
        yield Endpoint(running, mcp_resource, oauth_database_url)


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
