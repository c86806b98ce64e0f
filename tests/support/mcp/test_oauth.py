"""From a 401 to a call of a tool, with the official client and a real Better Auth, and who is refused."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import psycopg
import pytest
from django.contrib.auth import get_user_model
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from authn.oauth.metadata import metadata_url
from support.tools import calls
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, body_of
from tests.fixtures.model.server import Model
from tests.fixtures.oauth.better_auth import OTHER_RESOURCE
from tests.fixtures.oauth.clients import (
    REGISTRATION,
    OAuthClient,
    follow_consent,
    revoke_consent,
)
from tests.fixtures.oauth.mcp_requests import message, post, records, tool_call
from tests.fixtures.servers.api import Api, http, operation
from tests.fixtures.shop.tools import todos

pytestmark = pytest.mark.django_db(transaction=True)

ALL = ["assistant:ask", "conversations:read", "todo:write"]
SCOPED = {"add_todo", "clear_todos", "list_conversations", "read_conversation", "ask_assistant"}


# As Claude Code 2.1 registers: without an application_type. docs/mcp.md says what Better Auth needs for it.
CALLBACK = "http://localhost:3118/callback"
OF_A_DESKTOP = {name: value for name, value in REGISTRATION.items() if name != "application_type"}
OF_A_DESKTOP |= {"redirect_uris": [CALLBACK]}


class Storage:
    """Of the client: what it has registered, and its tokens."""

    tokens: OAuthToken | None = None
    client_info: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client_info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client_info = client_info


class OfficialClient:
    """The official client library, for a user who allows all that it asks for.

    ``asked``: the scopes of each question.
    """

    def __init__(self, url: str, person: Person) -> None:
        self.url, self.person = url, person
        self.storage, self.asked, self.location = Storage(), list[list[str]](), ""
        self.auth = OAuthClientProvider(
            url,
            OAuthClientMetadata.model_validate(OF_A_DESKTOP),
            self.storage,
            redirect_handler=self.redirect,
            callback_handler=self.callback,
        )

    async def redirect(self, url: str) -> None:
        self.asked.append(parse_qs(urlsplit(url).query)["scope"][0].split())
        self.location = follow_consent(self.person, self.person.browser.get(url).headers["Location"])

    async def callback(self) -> AuthorizationCodeResult:
        answer = {name: values[0] for name, values in parse_qs(urlsplit(self.location).query).items()}
        return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer.get("iss"))

    def call(self, name: str, **arguments: Any) -> Any:
        async def called() -> Any:
            async with httpx2.AsyncClient(auth=self.auth, timeout=30) as http_client:
                transport = streamable_http_client(self.url, http_client=http_client)
                async with Client(transport, mode="auto") as client:
                    return await client.call_tool(name, arguments)

        result = asyncio.run(called())
        return result.structured_content or result.content[0].text


def test_a_client_finds_its_way_from_the_401_to_a_call_as_its_user(
    mcp_api: Api, mcp_resource: str, oauth_auth: BetterAuth
) -> None:
    ada, bob = oauth_auth.sign_up(), oauth_auth.sign_up()
    of_ada, of_bob = OfficialClient(mcp_resource, ada), OfficialClient(mcp_resource, bob)

    added = of_ada.call("add_todo", text="Milk")
    who = of_ada.call("who_am_i")
    of_the_other = of_bob.call("show_todos")

    assert added == "Added (low). The list: ['Milk']"
    assert of_ada.storage.client_info is not None
    assert who == {
        "user_id": ada.user_id,
        "organization": None,
        "client_id": of_ada.storage.client_info.client_id,
    }
    assert of_the_other == "[]"
    assert [set(ALL) <= set(each) for each in of_ada.asked] == [True]
    assert CALLBACK in [str(uri) for uri in of_ada.storage.client_info.redirect_uris or []]


def test_the_401_names_the_metadata_and_the_metadata_names_better_auth(
    mcp_api: Api, mcp_resource: str, oauth_auth: BetterAuth
) -> None:
    response = http.post(mcp_resource, json=message("tools/list"))
    named = metadata_url(mcp_resource)
    document = http.get(named).json()

    assert response.status_code == 401
    assert f'resource_metadata="{named}"' in response.headers["WWW-Authenticate"]
    assert document == {
        "resource": mcp_resource,
        "authorization_servers": [f"{oauth_auth.origin}/api/auth"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Support",
        "scopes_supported": ALL,
    }


# --- Scopes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(oauth_auth: BetterAuth) -> OAuthClient:
    return OAuthClient.register(oauth_auth)


@pytest.fixture(scope="module")
def user(oauth_auth: BetterAuth) -> Person:
    return oauth_auth.sign_up()


@pytest.fixture(scope="module")
def token_with(client: OAuthClient, user: Person, mcp_resource: str) -> Callable[[str], str]:
    return lambda scopes: client.authorize(user, mcp_resource, f"offline_access {scopes}").access


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        ("tools:read", set()),
        ("todo:write", {"add_todo", "clear_todos"}),
        ("conversations:read", {"list_conversations", "read_conversation"}),
        ("assistant:ask", {"ask_assistant"}),
        (" ".join(ALL), SCOPED),
    ],
)
def test_a_tool_needs_its_scope(
    mcp_api: Api, user: Person, token_with: Callable[[str], str], granted: str, allowed: set[str]
) -> None:
    token = token_with(granted)
    names = {tool["name"] for tool in post(mcp_api, token, message("tools/list")).json()["result"]["tools"]}
    before = todos(user.user_id)

    # Without arguments, a tool that needs some is called and answers that they are wrong.
    statuses = {name: post(mcp_api, token, tool_call(name)).status_code for name in names - {"hang"}}

    assert {"add_todo", "list_conversations"} <= names
    refused = {name for name, status in statuses.items() if status == 403}
    assert refused == SCOPED - allowed
    assert set(statuses.values()) <= {200, 403}
    assert todos(user.user_id) == before


def test_a_missing_scope_is_named_with_those_that_the_client_has(
    mcp_api: Api, mcp_resource: str, user: Person, client: OAuthClient, token_with: Callable[[str], str]
) -> None:
    token = token_with("conversations:read tools:read")
    before = len(records(mcp_api, user_id=user.user_id))

    response = post(mcp_api, token, tool_call("add_todo", text="Milk"))

    challenge = response.headers["WWW-Authenticate"]
    assert (response.status_code, response.json()["status"]) == (403, 403)
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="conversations:read todo:write"' in challenge
    assert f'resource_metadata="{metadata_url(mcp_resource)}"' in challenge
    assert todos(user.user_id) == []
    assert len(records(mcp_api, user_id=user.user_id)) == before
    (*_, record) = records(mcp_api, "authn.audit", outcome="refused", client_id=client.client_id)
    assert record["reason"] == "insufficient_scope"


def test_the_assistant_calls_no_tool_for_which_the_client_lacks_the_scope(
    mcp_api: Api, user: Person, token_with: Callable[[str], str], model: Model
) -> None:
    question, outputs = tool_call("ask_assistant", message="Milk"), []

    for scopes in ("assistant:ask", "assistant:ask todo:write"):
        model.will_answer(tools=[("add_todo", {"text": scopes})]).then("Done.")
        post(mcp_api, token_with(scopes), question)
        outputs += model.calls[-1].tool_outputs

    assert outputs[0] == f"{calls.NO_SCOPE} todo:write."
    assert todos(user.user_id) == ["assistant:ask todo:write"]
    (refused, done) = records(mcp_api, user_id=user.user_id, tool="add_todo", via="chat")
    assert (refused["outcome"], done["outcome"]) == ("refused", "ok")
    get_user_model().objects.filter(username__startswith=user.user_id).delete()


def test_the_official_client_asks_its_user_for_a_missing_scope(
    mcp_api: Api, mcp_resource: str, oauth_auth: BetterAuth
) -> None:
    person, redirects = oauth_auth.sign_up(), [*REGISTRATION["redirect_uris"], CALLBACK]
    registered = OAuthClient.register(oauth_auth, redirect_uris=redirects)
    narrow = registered.authorize(person, mcp_resource, "conversations:read").access
    official = OfficialClient(mcp_resource, person)
    official.storage.tokens = OAuthToken(access_token=narrow, scope="conversations:read")
    official.storage.client_info = OAuthClientInformationFull.model_validate(
        OF_A_DESKTOP | {"client_id": registered.client_id, "token_endpoint_auth_method": "none"}
    )

    listed = official.call("list_conversations")
    added = official.call("add_todo", text="Milk")

    assert listed == {"conversations": [], "next_page": None}
    assert added == "Added (low). The list: ['Milk']"
    assert [{"conversations:read", "todo:write"} <= set(each) for each in official.asked] == [True]


# --- Refused access tokens ------------------------------------------------------------------------

Refusal = Callable[[OAuthClient, Person, str], str]


def signed_out(client: OAuthClient, person: Person, resource: str) -> str:
    token = client.authorize(person, resource).access
    person.sign_out()
    return token


def revoked(client: OAuthClient, person: Person, resource: str) -> str:
    token = client.authorize(person, resource).access
    revoke_consent(person, client)
    return token


REFUSED: list[Any] = [
    pytest.param(signed_out, 401, "signed_out", id="signed-out"),
    pytest.param(revoked, 401, "consent_revoked", id="consent-revoked"),
    pytest.param(
        lambda client, person, _: client.authorize(person, OTHER_RESOURCE).access,
        401,
        "audience",
        id="audience",
    ),
    pytest.param(
        lambda client, person, _: client.authorize(person, None).access, 401, "no_resource", id="no-resource"
    ),
    pytest.param(
        lambda client, person, _: person.token(), 401, "not_an_access_token", id="token-of-the-chat"
    ),
    pytest.param(lambda client, person, _: person.session_token, 401, "unknown_access_token", id="session"),
    pytest.param(lambda client, person, _: "a.b.c", 401, "malformed", id="malformed"),
]


@pytest.mark.parametrize(("obtain", "status", "reason"), REFUSED)
def test_a_token_is_refused_for_its_own_reason_and_nothing_runs(
    mcp_api: Api,
    mcp_resource: str,
    oauth_auth: BetterAuth,
    client: OAuthClient,
    obtain: Refusal,
    status: int,
    reason: str,
) -> None:
    person = oauth_auth.sign_up()
    token = obtain(client, person, mcp_resource)
    before = len(records(mcp_api, "authn.audit", reason=reason))

    response = post(mcp_api, token, tool_call("who_am_i"))

    assert (response.status_code, response.json()) == (status, body_of(BAD_TOKEN, status))
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert "resource_metadata=" in response.headers["WWW-Authenticate"]
    assert len(records(mcp_api, "authn.audit", reason=reason)) == before + 1
    assert records(mcp_api, user_id=person.user_id) == []


def test_a_banned_user_is_refused(
    mcp_api: Api, mcp_resource: str, oauth_auth: BetterAuth, client: OAuthClient, oauth_database_url: str
) -> None:
    person = oauth_auth.sign_up()
    token = client.authorize(person, mcp_resource).access
    with psycopg.connect(oauth_database_url) as database:
        database.execute('UPDATE "user" SET banned = true WHERE id = %s', [person.user_id])

    response = post(mcp_api, token, tool_call("who_am_i"))

    assert (response.status_code, response.json()) == (403, body_of("User is banned", 403))
    assert records(mcp_api, user_id=person.user_id) == []


def test_the_chat_refuses_an_access_token(
    mcp_api: Api, mcp_resource: str, user: Person, token_with: Callable[[str], str]
) -> None:
    response = mcp_api.post(operation("threads.list"), token_with("conversations:read"))

    assert (response.status_code, response.json()) == (401, body_of(BAD_TOKEN, 401))
