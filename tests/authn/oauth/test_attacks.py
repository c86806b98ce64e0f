"""Forged access tokens at an endpoint for OAuth clients. Each gets the same 401, and a logged reason."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.accounts.refusals import BAD_TOKEN, NO_CREDENTIALS, body_of
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.oauth.better_auth import OTHER_RESOURCE
from tests.fixtures.oauth.clients import OAuthClient
from tests.fixtures.oauth.endpoint import Endpoint
from tests.fixtures.oauth.forgeries import ATTACKS, AccessTokenSigner, Forge, key_in_table


@pytest.fixture(scope="module")
def signer(
    oauth_auth: BetterAuth, oauth_database_url: str, mcp_resource: str, client_of_all: OAuthClient
) -> Iterator[AccessTokenSigner]:
    """Signs for a user who has allowed ``client_of_all``."""
    user = oauth_auth.sign_up()
    client_of_all.authorize(user, mcp_resource)
    key = Signer.unknown()
    made = AccessTokenSigner(key.kid, key.algorithm, key.private_key, oauth_auth.origin, mcp_resource)
    with key_in_table(made, oauth_database_url):
        yield made.acting_for(user.user_id, client_of_all.client_id, user.session_id)


@pytest.fixture(scope="module")
def refused(endpoint: Endpoint) -> tuple[int, bytes, str]:
    """The status, the body and the challenge of every refused token."""
    response = endpoint.get("a.b.c")
    assert response.json() == body_of(BAD_TOKEN, 401)
    return 401, response.content, response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("forge", "reason"), ATTACKS)
def test_a_forged_access_token_gets_the_same_401_as_every_other(
    endpoint: Endpoint,
    signer: AccessTokenSigner,
    refused: tuple[int, bytes, str],
    forge: Forge,
    reason: str,
) -> None:
    response = endpoint.get(forge(signer))

    assert endpoint.record(response)["reason"] == reason
    assert (response.status_code, response.content, response.headers["WWW-Authenticate"]) == refused


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["userinfo", "resource"]},
        {"aud": "resource"},
        {"azp": None},
        {"client_id": None},
        {"scope": ""},
        {"email": "somebody@else.example"},
    ],
    ids=str,
)
def test_a_token_at_the_limits_is_accepted(
    endpoint: Endpoint, signer: AccessTokenSigner, changes: dict[str, Any]
) -> None:
    """So each row of the attacks is refused for its change alone."""
    names = {"resource": signer.resource, "userinfo": signer.userinfo}
    match changes.get("aud"):
        case str(name):
            changes = {"aud": names[name]}
        case [*named]:
            changes = {"aud": [names[name] for name in named]}

    for typ in ("at+jwt", "application/at+jwt"):
        response = endpoint.get(signer.token({"typ": typ}, **changes))

        assert response.status_code == 200, endpoint.record(response)
        assert response.json()["user_id"] == signer.user_id


HEADERS: dict[str, tuple[str, int, str]] = {
    "two-tokens": ("Bearer {token}, Bearer {token}", 400, "two_credentials"),
    "the-good-one-last": ("Bearer a.b.c, Bearer {token}", 400, "two_credentials"),
    "another-scheme-first": ("Basic YTpi, Bearer {token}", 401, "no_credentials"),
    "another-scheme-last": ("Bearer {token}, Basic YTpi", 401, "malformed"),
    "two-spaces": ("Bearer  {token}", 401, "malformed"),
    "quoted": ('Bearer "{token}"', 401, "malformed"),
    "the-scheme-twice": ("Bearer Bearer {token}", 401, "malformed"),
    "the-token-alone": ("{token}", 401, "no_credentials"),
    "dpop": ("DPoP {token}", 401, "no_credentials"),
    "nothing-but-the-scheme": ("Bearer", 401, "malformed"),
    "undefined": ("Bearer undefined", 401, "malformed"),
    "invented": ("Bearer a-token-that-nobody-has-made", 401, "unknown_access_token"),
    "too-long": ("Bearer {long}.y.z", 401, "too_long"),
    "an-opaque-token-too-long": ("Bearer {long}", 401, "too_long"),
}


@pytest.mark.parametrize(("header", "status", "reason"), HEADERS.values(), ids=HEADERS)
def test_a_bad_header_is_refused(
    endpoint: Endpoint,
    signer: AccessTokenSigner,
    refused: tuple[int, bytes, str],
    header: str,
    status: int,
    reason: str,
) -> None:
    written = header.format(token=signer.token(), long="x" * 8200)

    response = endpoint.send("GET", "/support/mcp", Authorization=written)

    assert (response.status_code, endpoint.record(response)["reason"]) == (status, reason)
    if reason == "no_credentials":
        assert response.json() == body_of(NO_CREDENTIALS, 401)
        assert "error=" not in response.headers["WWW-Authenticate"]
    elif status == 401:
        assert (response.content, response.headers["WWW-Authenticate"]) == refused[1:]


def test_the_chat_refuses_every_access_token(endpoint: Endpoint, signer: AccessTokenSigner) -> None:
    """Also one with the chat's audience: its typ says that it is for another endpoint."""
    chat = signer.origin
    for token in (
        signer.token(),
        signer.token(aud=chat, iss=chat, email="ada@example.com"),
        signer.token({"typ": "application/at+jwt"}),
    ):
        response = endpoint.send("POST", "/support/chatkit", token)

        assert (response.status_code, endpoint.record(response)["reason"]) == (401, "type")


def test_a_real_token_for_another_resource_is_refused(
    endpoint: Endpoint, oauth_auth: BetterAuth, client_of_all: OAuthClient
) -> None:
    user = oauth_auth.sign_up()

    real = client_of_all.authorize(user, OTHER_RESOURCE).access

    assert endpoint.reason(real) == "audience"
