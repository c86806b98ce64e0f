"""Access tokens of a real Better Auth, at endpoints of ours."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from jwt.utils import base64url_encode

from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.refusals import body_of
from tests.fixtures.oauth.better_auth import OAUTH_PLUGINS, OTHER_RESOURCE, plugins
from tests.fixtures.oauth.clients import OAuthClient, Tokens, discover, revoke_consent
from tests.fixtures.oauth.endpoint import Endpoint

# --- Accepted --------------------------------------------------------------------------------------


def test_a_client_finds_its_way_from_the_401_to_an_answer(endpoint: Endpoint, user: Person) -> None:
    """Discovery, registration, consent, token, request: all that a client knows first is the URL."""
    refused = endpoint.get(None)
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
    # Only the path: the resource is the URL of another server in these tests.
    metadata = endpoint.send("GET", urlsplit(challenge["resource_metadata"]).path)
    [server] = metadata.json()["authorization_servers"]
    client = OAuthClient.register(user.auth)

    tokens = client.authorize(user, metadata.json()["resource"], scope=f"openid {challenge['scope']}")
    response = endpoint.get(tokens.access)

    assert refused.status_code == 401
    assert challenge["scope"] == "tools:read tools:write"
    assert metadata.json() == {
        "resource": endpoint.resource,
        "authorization_servers": [f"{user.auth.origin}/api/auth"],
        "bearer_methods_supported": ["header"],
        "resource_name": "The shop",
        "scopes_supported": ["tools:read", "tools:write"],
    }
    assert discover(server) == client.metadata
    assert response.json() == {
        "user_id": user.user_id,
        "client_id": client.client_id,
        "scopes": ["openid", "tools:read", "tools:write"],
        "session_id": user.session_id,
        "statements": 1,
    }
    record = endpoint.record(response)
    assert {
        name: record[name] for name in ("outcome", "credential", "user_id", "client_id", "algorithm")
    } == {
        "outcome": "accepted",
        "credential": "oauth",
        "user_id": user.user_id,
        "client_id": client.client_id,
        "algorithm": "EdDSA",
    }


def test_a_refreshed_token_and_an_opaque_one_are_accepted_too(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, tokens: Tokens
) -> None:
    refreshed = client_of_all.refresh(tokens, endpoint.resource).access
    opaque = client_of_all.authorize(user, None, "tools:read").access

    answers = [endpoint.get(refreshed).json(), endpoint.get(opaque, "any-resource").json()]

    assert "." not in opaque
    assert [each["user_id"] for each in answers] == [user.user_id] * 2
    assert [each["session_id"] for each in answers] == [user.session_id] * 2
    assert [each["scopes"] for each in answers] == [["offline_access", "tools:read"], ["tools:read"]]
    assert [each["statements"] for each in answers] == [1, 2]  # an opaque token is looked up first


def test_each_user_is_themselves(
    endpoint: Endpoint, client_of_all: OAuthClient, oauth_auth: BetterAuth, user: Person, tokens: Tokens
) -> None:
    other = oauth_auth.sign_up()
    theirs = client_of_all.authorize(other, endpoint.resource)

    seen = [endpoint.get(each.access).json()["user_id"] for each in (tokens, theirs)]

    assert seen == [user.user_id, other.user_id]


# --- Refused ---------------------------------------------------------------------------------------


def sign_out(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    person.sign_out()


def let_the_session_expire(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    endpoint.sql('UPDATE "session" SET "expiresAt" = now() WHERE "userId" = %s', person.user_id)


def ban(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    endpoint.sql('UPDATE "user" SET "banned" = true WHERE "id" = %s', person.user_id)


def revoke(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    revoke_consent(person, client)


def disable_the_client(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    endpoint.sql('UPDATE "oauthClient" SET "disabled" = true WHERE "clientId" = %s', client.client_id)


def delete_the_client(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    endpoint.sql('DELETE FROM "oauthClient" WHERE "clientId" = %s', client.client_id)


def delete_the_user(person: Person, client: OAuthClient, endpoint: Endpoint) -> None:
    endpoint.sql('DELETE FROM "user" WHERE "id" = %s', person.user_id)


End = Callable[[Person, OAuthClient, Endpoint], None]
# Each with the reason for a JWT and for an opaque token, and with what Better Auth itself says of the JWT and
# of the opaque token after it.
ENDS: list[tuple[End, str, str, bool, bool]] = [
    (sign_out, "signed_out", "revoked", False, False),
    (let_the_session_expire, "signed_out", "signed_out", False, False),
    (ban, "user_banned", "user_banned", True, True),  # Better Auth's own ban also ends the sessions
    (revoke, "consent_revoked", "consent_revoked", True, True),
    (disable_the_client, "client_disabled", "client_disabled", False, False),
    (delete_the_client, "client_disabled", "unknown_access_token", False, False),
    (delete_the_user, "user_not_found", "unknown_access_token", False, False),
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end[0].__name__)
def test_a_token_ends_with_what_it_depends_on_at_once(
    endpoint: Endpoint, user: Person, oauth_auth: BetterAuth, end: tuple[End, str, str, bool, bool]
) -> None:
    """Better Auth's introspection is the oracle: we accept nothing that it refuses."""
    happens, reason, reason_of_opaque, *oracle = end
    # With a secret it may introspect. Another user has created it, because it would end with its creator.
    client = OAuthClient.confidential(oauth_auth.sign_up())
    jwt = client.authorize(user, endpoint.resource, "tools:read").access
    opaque = client.authorize(user, None, "tools:read").access
    watcher = client if happens not in (disable_the_client, delete_the_client) else None
    before = [client.introspect(each)["active"] for each in (jwt, opaque)]
    accepted = [endpoint.get(jwt).status_code, endpoint.get(opaque, "any-resource").status_code]

    happens(user, client, endpoint)
    responses = [endpoint.get(jwt), endpoint.get(opaque, "any-resource")]

    assert (before, accepted) == ([True, True], [200, 200])
    records = [endpoint.record(each) for each in responses]
    assert [each["reason"] for each in records] == [reason, reason_of_opaque]
    assert [each.status_code for each in responses] == [403 if reason == "user_banned" else 401] * 2
    assert records[0]["client_id"] == client.client_id
    if watcher:
        assert [watcher.introspect(each)["active"] for each in (jwt, opaque)] == oracle


def test_a_client_that_acts_for_itself_is_nobody(endpoint: Endpoint, user: Person) -> None:
    """Its JWT has the client's id as ``sub``. Somebody could register a client with the id of a user."""
    client = OAuthClient.confidential(user, grant_types=["authorization_code", "client_credentials"])
    allow = """UPDATE "oauthClient" SET "clientCredentialsScopes" = '["tools:read"]' WHERE "clientId" = %s"""
    endpoint.sql(allow, client.client_id)

    jwt, opaque = (client.as_itself(each, "tools:read").access for each in (endpoint.resource, None))

    assert client.introspect(jwt)["active"]
    assert [endpoint.reason(jwt), endpoint.reason(opaque, "any-resource")] == ["no_user", "no_user"]


def test_the_session_of_another_user_does_not_count(
    endpoint: Endpoint, client_of_all: OAuthClient, oauth_auth: BetterAuth, user: Person
) -> None:
    opaque = client_of_all.authorize(user, None, "tools:read").access
    other = oauth_auth.sign_up()

    change = 'UPDATE "oauthAccessToken" SET "sessionId" = %s WHERE "userId" = %s'
    endpoint.sql(change, other.session_id, user.user_id)

    assert endpoint.reason(opaque, "any-resource") == "signed_out"


def test_a_client_revokes_its_own_opaque_token(
    endpoint: Endpoint, oauth_auth: BetterAuth, user: Person
) -> None:
    client = OAuthClient.confidential(oauth_auth.sign_up())
    opaque = client.authorize(user, None, "tools:read").access
    before = endpoint.get(opaque, "any-resource").status_code

    assert client.revoke(opaque) == 200

    assert before == 200
    assert client.introspect(opaque)["active"] is False
    assert endpoint.reason(opaque, "any-resource") == "unknown_access_token"


def test_a_client_that_administrators_trust_needs_no_consent(endpoint: Endpoint, user: Person) -> None:
    client = OAuthClient.register(user.auth)
    token = client.authorize(user, endpoint.resource).access
    revoke_consent(user, client)
    before = endpoint.reason(token)

    endpoint.sql('UPDATE "oauthClient" SET "skipConsent" = true WHERE "clientId" = %s', client.client_id)

    assert (before, endpoint.reason(token)) == ("consent_revoked", "ok")


def test_the_consent_of_another_user_or_for_another_client_is_none(
    endpoint: Endpoint, client_of_all: OAuthClient, oauth_auth: BetterAuth, user: Person
) -> None:
    client, other = OAuthClient.register(oauth_auth), oauth_auth.sign_up()
    token = client.authorize(user, endpoint.resource).access
    client.authorize(other, endpoint.resource)
    client_of_all.authorize(user, endpoint.resource)

    revoke_consent(user, client)

    assert endpoint.reason(token) == "consent_revoked"


OPAQUE: dict[str, tuple[str, str]] = {
    "expired": ("\"expiresAt\" = now() - interval '1 s'", "expired"),
    "revoked": ('"revoked" = now()', "revoked"),
    "for-another-resource": (f'"resources" = \'["{OTHER_RESOURCE}"]\'', "audience"),
    "for-both": ('"resources" = \'["{}", "' + OTHER_RESOURCE + "\"]'", "other_audience"),
    "sender-constrained": ('"confirmation" = \'{{"jkt": "x"}}\'', "sender_constrained"),
    "of-no-user": ('"userId" = NULL', "no_user"),
    "without-a-session": ('"sessionId" = NULL', "offline_token"),
    "for-this-resource": ('"resources" = \'["{}"]\'', "ok"),
    "for-an-empty-list": ("\"resources\" = '[]'", "no_resource"),
    "for-none": ('"resources" = NULL', "no_resource"),
}


@pytest.mark.parametrize(("change", "reason"), OPAQUE.values(), ids=OPAQUE)
def test_the_row_of_an_opaque_token_decides(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, change: str, reason: str
) -> None:
    """Only a resource of its own makes an opaque token good by default."""
    token = client_of_all.authorize(user, None, "tools:read").access
    here = """UPDATE "oauthAccessToken" SET "resources" = jsonb_build_array(%s::text) WHERE "userId" = %s"""
    endpoint.sql(here, endpoint.resource, user.user_id)
    changed = change.format(endpoint.resource)

    endpoint.sql(f'UPDATE "oauthAccessToken" SET {changed} WHERE "userId" = %s', user.user_id)

    response = endpoint.get(token)
    assert endpoint.record(response)["reason"] == reason
    assert response.status_code == (200 if reason == "ok" else 401)


def test_an_opaque_token_has_the_prefix_of_the_settings(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person
) -> None:
    """Better Auth stores the hash of the token without its prefix."""
    token = client_of_all.authorize(user, None, "tools:read").access

    reasons = [endpoint.reason(f"{prefix}{token}", "prefix") for prefix in ("acme_", "", "acme_acme_")]

    assert reasons == ["ok", "malformed", "unknown_access_token"]


# --- Without a session -----------------------------------------------------------------------------


def test_only_the_setting_and_the_scope_together_let_a_client_act_offline(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, tokens: Tokens
) -> None:
    online = client_of_all.authorize(user, endpoint.resource, "tools:read")
    user.sign_out()
    refreshed = client_of_all.refresh(tokens, endpoint.resource)  # Better Auth lets it
    offline = [endpoint.get(each.access, "offline") for each in (tokens, refreshed)]

    strict = [endpoint.reason(each.access) for each in (tokens, refreshed, online)]

    assert strict == ["signed_out", "offline_token", "signed_out"]
    assert [each.json()["session_id"] for each in offline] == [None, None]
    assert [each.json()["user_id"] for each in offline] == [user.user_id] * 2
    assert endpoint.record(offline[0])["user_id"] == user.user_id
    assert endpoint.reason(online.access, "offline") == "signed_out"
    ban(user, client_of_all, endpoint)
    assert endpoint.reason(refreshed.access, "offline") == "user_banned"


def test_a_session_that_ended_in_redis_ends_its_tokens(
    postgres_url: str,
    redis_url: str,
    mcp_resource: str,
    start_other_better_auth: Callable[..., Any],
    start_endpoint: Callable[..., Any],
) -> None:
    """Better Auth may keep the rows of ended sessions: only its secondaryStorage knows that they ended."""
    url = create_database(postgres_url, "oauth_with_redis")
    kept = {"session": {"storeSessionInDatabase": True, "preserveSessionInDatabase": True}}
    server = {"DATABASE_URL": url, "SECONDARY_STORAGE_URL": redis_url, "OPTIONS": json.dumps(kept)}
    ours = {"BETTER_AUTH_SESSION_SOURCE": redis_url, "BETTER_AUTH_SESSION_PREFIX": "better-auth:"}
    with start_other_better_auth(**server, PLUGINS=plugins(mcp_resource)) as auth:
        ours |= {"BETTER_AUTH_DATABASE_URL": url, "BETTER_AUTH_URL": auth.origin}
        with start_endpoint(url, **ours, BETTER_AUTH_PLUGINS=OAUTH_PLUGINS) as endpoint:
            person = auth.sign_up()
            other = auth.sign_in(person.email)
            session_id = person.session_id
            token = OAuthClient.register(auth).authorize(person, mcp_resource).access
            before = endpoint.get(token).json()["session_id"]
            person.sign_out()
            [(rows,)] = endpoint.sql('SELECT count(*) FROM "session" WHERE "id" = %s', session_id)
            reason = endpoint.reason(token)
            other.sign_out()

    assert (before, rows) == (session_id, 1)
    assert reason == "signed_out"  # the user's other session does not count


# --- Other credentials -----------------------------------------------------------------------------


def test_tokens_of_the_chat_are_accepted_only_by_the_option(endpoint: Endpoint, user: Person) -> None:
    token = user.token()
    refused, accepted = endpoint.get(token), endpoint.send("POST", "/support/session-tokens", token)
    record = endpoint.record(accepted)
    user.sign_out()
    ended = endpoint.get(token, "session-tokens")

    assert (refused.status_code, endpoint.record(refused)["reason"]) == (401, "not_an_access_token")
    assert accepted.json() == {"user_id": user.user_id, "is_client": False}
    assert (record["credential"], record["client_id"]) == ("jwt", None)
    # Not the 404 of the chat: a client of MCP takes it for the end of the protocol's session.
    assert (ended.status_code, endpoint.record(ended)["reason"]) == (401, "no_active_session")
    assert ended.content == refused.content


def test_an_access_token_is_accepted_with_that_option_too(endpoint: Endpoint, tokens: Tokens) -> None:
    assert endpoint.reason(tokens.access, "session-tokens") == "ok"


def test_an_id_token_is_refused_even_with_that_option(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person
) -> None:
    id_token = client_of_all.authorize(user, endpoint.resource, "openid tools:read").id_token

    assert endpoint.reason(id_token) == "not_an_access_token"
    assert endpoint.reason(id_token, "session-tokens") == "missing_email"


@pytest.mark.parametrize("path", ["mcp", "session-tokens"])
def test_cookies_and_session_tokens_are_never_accepted(endpoint: Endpoint, user: Person, path: str) -> None:
    cookie = f"better-auth.session_token={user.cookie}"

    with_cookie = endpoint.get(None, path, Cookie=cookie, Origin="https://shop.example.com")
    session_token, signed = (endpoint.reason(each, path) for each in (user.session_token, user.cookie))

    assert (with_cookie.status_code, endpoint.record(with_cookie)["reason"]) == (401, "no_credentials")
    assert (session_token, signed) == ("unknown_access_token", "malformed")


def test_a_cookie_beside_an_access_token_changes_nothing(
    endpoint: Endpoint, oauth_auth: BetterAuth, user: Person, tokens: Tokens
) -> None:
    cookie = f"better-auth.session_token={oauth_auth.sign_up().cookie}"

    response = endpoint.get(tokens.access, Cookie=cookie, Origin="https://shop.example.com")

    assert response.json()["user_id"] == user.user_id


# --- Scopes, limits and logs -----------------------------------------------------------------------


def test_a_missing_scope_is_named_in_the_challenge_and_logged(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, tokens: Tokens
) -> None:
    read = endpoint.get(tokens.access, "mcp?scope=tools:read")

    refused = endpoint.get(tokens.access, "mcp?scope=tools:write&scope=tools:read")

    assert read.status_code == 200
    assert refused.status_code == 403
    assert refused.json() == body_of("The access token does not have a scope that this needs", 403)
    assert refused.headers["WWW-Authenticate"] == (
        'Bearer realm="chatbackend", error="insufficient_scope", scope="tools:read tools:write", '
        f'resource_metadata="{endpoint.metadata_url}"'
    )
    record = endpoint.record(refused)
    assert (record["reason"], record["status"]) == ("insufficient_scope", 403)
    assert (record["user_id"], record["client_id"]) == (user.user_id, client_of_all.client_id)


def test_refused_attempts_have_a_limit_for_each_token(
    endpoint: Endpoint, client_of_all: OAuthClient, oauth_auth: BetterAuth, user: Person, tokens: Tokens
) -> None:
    other = client_of_all.authorize(oauth_auth.sign_up(), endpoint.resource)
    user.sign_out()

    statuses = [endpoint.get(tokens.access, "limited").status_code for _ in range(4)]

    assert statuses == [401, 401, 429, 429]
    assert endpoint.get(other.access, "limited").status_code == 200


def test_a_refused_token_is_not_looked_up_again_past_the_limit(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, tokens: Tokens
) -> None:
    ban(user, client_of_all, endpoint)
    statuses = [endpoint.get(tokens.access, "limited").status_code for _ in range(3)]

    endpoint.sql('UPDATE "user" SET "banned" = false WHERE "id" = %s', user.user_id)

    assert statuses == [403, 403, 429]
    assert endpoint.get(tokens.access, "limited").status_code == 429
    assert endpoint.get(tokens.access).status_code == 429  # the block is of the token, at each endpoint


def test_invented_tokens_count_for_the_address_and_found_ones_for_themselves(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person
) -> None:
    """An address over its limit gets no opaque token looked up. Its JWTs are still accepted."""
    good, jwt = (
        client_of_all.authorize(user, each, "tools:read").access for each in (None, endpoint.resource)
    )
    ended = client_of_all.authorize(user, None, "tools:read").access
    endpoint.sql('UPDATE "oauthAccessToken" SET "resources" = jsonb_build_array(%s::text)', endpoint.resource)
    revoke_row = 'UPDATE "oauthAccessToken" SET "revoked" = now() WHERE "token" = %s'
    endpoint.sql(revoke_row, base64url_encode(hashlib.sha256(ended.encode()).digest()).decode())
    here = {"X-Forwarded-For": "198.51.100.7"}

    def statuses(token: str, number: int = 1) -> list[int]:
        return [endpoint.get(token, "limited", **here).status_code for _ in range(number)]

    assert statuses(ended, 3) == [401, 401, 429]
    assert statuses(good) == [200]
    assert statuses("an-invented-token-of-somebody", 3) == [401, 401, 429]
    assert statuses(good) == [429]
    assert statuses(jwt) == [200]
    assert endpoint.get(good, "limited").status_code == 200  # at another address


def test_the_log_has_no_part_of_a_token_and_no_hash(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, tokens: Tokens
) -> None:
    opaque = client_of_all.authorize(user, None, "tools:read").access
    endpoint.get(opaque, "any-resource")
    endpoint.get(opaque)
    endpoint.get(tokens.access)
    user.sign_out()
    endpoint.get(opaque, "any-resource")
    endpoint.get(tokens.access)
    hashes = endpoint.sql('SELECT "token" FROM "oauthAccessToken" WHERE "userId" = %s', user.user_id)

    log = endpoint.api.log.read_text()

    assert user.user_id in log
    assert hashes
    for secret in [opaque, *tokens.access.split("."), *(each for (each,) in hashes)]:
        assert secret not in log
