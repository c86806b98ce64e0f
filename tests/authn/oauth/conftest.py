"""A server with endpoints for OAuth clients, and requests to it."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import psycopg
import pytest

from tests.fixtures.accounts.oauth_clients import OAuthClient, Tokens
from tests.fixtures.accounts.oauth_server import OAUTH_PLUGINS
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.servers.api import Api, http


@dataclass
class Endpoint:
    """The running server. ``resource``: of all its endpoints for OAuth clients."""

    api: Api
    resource: str
    database_url: str

    def get(self, token: str | None, path: str = "mcp", **headers: str) -> httpx2.Response:
        return self.send("GET", f"/support/{path}", token, **headers)

    def send(self, method: str, path: str, token: str | None = None, **headers: str) -> httpx2.Response:
        own = {"Authorization": f"Bearer {token}"} if token is not None else {}
        names = {"X-Request-ID": str(uuid.uuid4())} | own | headers
        return http.request(method, f"{self.api.origin}{path}", headers=names, timeout=30)

    def record(self, response: httpx2.Response) -> dict[str, Any]:
        """The last audit record of this response's request."""
        return self.api.audit_records(response.headers["X-Request-ID"])[-1]

    def reason(self, token: str, path: str = "mcp") -> str:
        return str(self.record(self.get(token, path))["reason"])

    def sql(self, statement: str, *parameters: Any) -> Any:
        with psycopg.connect(self.database_url) as database:
            cursor = database.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else None


@pytest.fixture(scope="session")
def endpoint(
    oauth_auth: BetterAuth, oauth_database_url: str, mcp_resource: str, start_api: Callable[..., Any]
) -> Iterator[Endpoint]:
    with start_api(
        "tests.fixtures.servers.oauth_endpoint:application",
        DJANGO_SETTINGS_MODULE="tests.fixtures.servers.oauth_endpoint_settings",
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
