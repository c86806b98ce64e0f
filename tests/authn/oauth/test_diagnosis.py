"""What ``betterauth explain``, ``betterauth doctor`` and the system checks say of access tokens."""

import json
import re
from typing import Any

import psycopg
import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from authn.conf import conf
from authn.oauth.authentication import OAuthAccessTokenAuthentication
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.oauth.clients import OAuthClient, Tokens, revoke_consent
from tests.fixtures.oauth.endpoint import Endpoint
from tests.fixtures.servers.forkserver import manage

# --- explain -----------------------------------------------------------------------------------------


def explained(token: str, env: dict[str, str]) -> dict[str, Any]:
    done = manage("betterauth", "explain", "--json", "-", stdin=token, **env)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if answer["accepted"] else 1)
    for part in token.split("."):
        assert len(part) < 16 or part not in done.stdout
    return answer


def test_each_kind_of_token_is_explained_as_what_it_is(
    endpoint: Endpoint,
    oauth_environment: dict[str, str],
    client_of_all: OAuthClient,
    user: Person,
    tokens: Tokens,
) -> None:
    client = OAuthClient.register(user.auth)
    opaque = client.authorize(user, None, "tools:read").access
    env = oauth_environment
    access, chat = explained(tokens.access, env), explained(user.token(), env)
    without_resource = explained(opaque, env)
    for_any = explained(opaque, env | {"BETTER_AUTH_OAUTH_REQUIRE_RESOURCE": "False"})
    revoke_consent(user, client)
    revoked = explained(opaque, env | {"BETTER_AUTH_OAUTH_REQUIRE_RESOURCE": "False"})

    assert access["accepted"]
    assert f"access token of the client {client_of_all.client_id}" in access["message"]
    assert f"Only the endpoint {endpoint.resource} accepts it. The chat never does." in access["message"]
    assert access["token"]["scope"] == "offline_access tools:read"
    assert chat["accepted"]
    assert "An MCP endpoint refuses it (not_an_access_token)" in chat["message"]
    assert (without_resource["reason"], failed(without_resource)) == ("no_resource", "audience")
    assert for_any["accepted"]
    assert (revoked["reason"], failed(revoked), revoked["status"]) == ("consent_revoked", "consent", 401)


def test_a_refused_access_token_stops_at_its_step(
    oauth_environment: dict[str, str], user: Person, tokens: Tokens
) -> None:
    other_issuer = oauth_environment | {"BETTER_AUTH_OAUTH_ISSUER": "https://auth.example.com/api/auth"}
    issuer = explained(tokens.access, other_issuer)
    user.sign_out()

    ended = explained(tokens.access, oauth_environment)

    assert (issuer["reason"], failed(issuer)) == ("issuer", "issuer")
    assert f"{user.auth.origin}/api/auth" in issuer["message"]
    assert "BETTER_AUTH_OAUTH_ISSUER" in issuer["remedy"]
    assert (ended["reason"], failed(ended), ended["is_genuine"]) == ("signed_out", "session", True)
    assert explained(tokens.access, oauth_environment | {"BETTER_AUTH_PLUGINS": "admin"})["reason"] == "type"


def failed(explanation: dict[str, Any]) -> str:
    [step] = [each["step"] for each in explanation["steps"] if each["outcome"] == "failed"]
    return str(step)


# --- doctor --------------------------------------------------------------------------------------------


def examined(env: dict[str, str]) -> dict[str, Any]:
    done = manage("betterauth", "doctor", "--json", **env)
    return {each["name"]: each for each in json.loads(done.stdout)["examinations"]}


@pytest.mark.usefixtures("tokens")
def test_the_doctor_knows_access_tokens(
    oauth_environment: dict[str, str], database_url: str, oauth_database_url: str
) -> None:
    env = oauth_environment | {"DATABASE_URL": database_url}
    good = examined(env)
    with psycopg.connect(oauth_database_url, autocommit=True) as owner:
        owner.execute('REVOKE SELECT ("skipConsent") ON "oauthClient" FROM oauth_reader')
        owner.execute('GRANT SELECT ("clientSecret") ON "oauthClient" TO oauth_reader')
        owner.execute('ALTER TABLE "oauthConsent" RENAME TO "consents"')
        try:
            bad = examined(env | {"BETTER_AUTH_OAUTH_ISSUER": "https://auth.example.com/api/auth"})
        finally:
            owner.execute('ALTER TABLE "consents" RENAME TO "oauthConsent"')
            owner.execute('REVOKE SELECT ("clientSecret") ON "oauthClient" FROM oauth_reader')
            owner.execute('GRANT SELECT ("skipConsent") ON "oauthClient" TO oauth_reader')
    wrong_issuer = examined(env | {"BETTER_AUTH_OAUTH_ISSUER": oauth_environment["BETTER_AUTH_URL"] + "/api"})

    assert {name for name, each in good.items() if each["outcome"] == "failure"} == set()
    issuer = f"{oauth_environment['BETTER_AUTH_URL']}/api/auth"
    assert f"{issuer} is the issuer of access tokens." in str(good["access_tokens"])
    assert "there is no table oauthConsent, but public.consents looks like it" in str(bad["tables"])
    assert "BETTER_AUTH_TABLES=oauthConsent=consents" in str(bad["tables"])
    assert "may not read public.oauthClient (skipConsent)" in str(bad["grants"])
    assert "public.oauthClient: read clientSecret" in str(bad["least_privilege"])
    assert "Nothing answers" in str(bad["access_tokens"])  # no network is no failure
    assert bad["access_tokens"]["outcome"] == "ok"
    assert "404" in str(wrong_issuer["access_tokens"])


# --- Grants and checks -----------------------------------------------------------------------------------


def test_the_models_name_exactly_the_columns_that_are_granted(endpoint: Endpoint, oauth_grants: str) -> None:
    """All tests of this folder run with this role."""
    granted = {
        (table, column)
        for columns, table in re.findall(r"^GRANT SELECT \((.*)\) ON (\S+) TO", oauth_grants, re.MULTILINE)
        for column in columns.split(", ")
    }

    read = {
        (f'"{table}"', f'"{column}"') for table, column in endpoint.send("GET", "/support/columns").json()
    }

    assert read == granted


def test_wrong_settings_are_found_at_the_start(settings: Any) -> None:
    def ids() -> set[str | None]:
        return {message.id for message in run_checks()} & {"authn.E033", "authn.E034"}

    assert ids() == set()
    settings.BETTER_AUTH_OAUTH_ISSUER = "auth.example.com/api/auth"
    settings.BETTER_AUTH_OAUTH_TOKEN_PREFIX = "acme token"

    assert ids() == {"authn.E033", "authn.E034"}


def test_a_view_needs_the_plugin() -> None:
    with pytest.raises(ImproperlyConfigured, match="oauth-provider plugin, which BETTER_AUTH_PLUGINS"):
        OAuthAccessTokenAuthentication("https://api.example.com/mcp", "https://api.example.com/metadata")


def test_better_auth_is_found_below_its_own_path(oauth_auth: BetterAuth, settings: Any) -> None:
    """The default follows from BETTER_AUTH_URL as in Better Auth, and an issuer of the jwt() plugin wins."""
    settings.BETTER_AUTH_URL = oauth_auth.origin
    defaults = [conf.BETTER_AUTH_OAUTH_ISSUER, conf.oauth_userinfo_url]
    settings.BETTER_AUTH_URL = "https://AUTH.example.com/x/auth/"
    with_path = conf.BETTER_AUTH_OAUTH_ISSUER
    settings.BETTER_AUTH_ISSUER = "https://issuer.example/"

    assert defaults == [f"{oauth_auth.origin}/api/auth", f"{oauth_auth.origin}/api/auth/oauth2/userinfo"]
    assert with_path == "https://auth.example.com/x/auth"
    assert conf.BETTER_AUTH_OAUTH_ISSUER == "https://issuer.example/"
