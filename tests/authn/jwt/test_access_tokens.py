"""``access_tokens.verify``: what a good access token says, and why each forgery is refused.

tests/authn/oauth sends the same forgeries to a running server.
"""

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from authn.errors import TokenRefused
from authn.jwt import access_tokens, signed
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.environment import BETTER_AUTH_URL
from tests.fixtures.oauth.forgeries import AUDIENCES, CLAIMS, HEADERS, AccessTokenSigner, Forge

pytestmark = pytest.mark.django_db

RESOURCE = "https://api.example.com/support/mcp"
USERINFO = f"{BETTER_AUTH_URL}/api/auth/oauth2/userinfo"


@pytest.fixture
def access_signer(signer: Signer) -> AccessTokenSigner:
    """Signs access tokens with a key that is in Better Auth's table of keys."""
    return AccessTokenSigner(signer.kid, signer.algorithm, signer.private_key, BETTER_AUTH_URL, RESOURCE)


def reason_for(token: str, resource: str = RESOURCE) -> str:
    with pytest.raises(TokenRefused) as refused:
        access_tokens.verify(token, resource)
    assert str(refused.value.detail) == "Invalid or expired JWT token"
    return refused.value.reason


def test_a_good_access_token_gives_what_it_says(access_signer: AccessTokenSigner) -> None:
    exp = int(time.time()) + 3600

    token = access_tokens.verify(access_signer.token(exp=exp), RESOURCE)

    assert token == access_tokens.AccessToken(
        subject="user-id",
        client_id="client-id",
        scopes=frozenset({"openid", "offline_access", "tools:read"}),
        session_id="session-id",
        expires_at=datetime.fromtimestamp(exp, UTC),
        key_id=access_signer.kid,
        algorithm="EdDSA",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": RESOURCE},
        {"aud": [RESOURCE]},
        {"azp": None},
        {"client_id": None},
        {"client_id": "x" * 1024, "azp": "x" * 1024},
        {"client_id": "https://client.example/metadata", "azp": "https://client.example/metadata"},
        {"scope": ""},
        {"scope": "x" * 4096},
        {"scope": "!#[]~"},
        {"sid": None},
        {"jti": "x" * 128},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_a_token_at_the_limits_is_good(access_signer: AccessTokenSigner, changes: dict[str, Any]) -> None:
    assert access_tokens.verify(access_signer.token(**changes), RESOURCE).subject == "user-id"


@pytest.mark.parametrize(("forge", "reason"), [*HEADERS, *AUDIENCES, *CLAIMS])
def test_a_forged_access_token_is_refused_for_its_reason(
    access_signer: AccessTokenSigner, forge: Forge, reason: str
) -> None:
    assert reason_for(forge(access_signer)) == reason


def test_either_name_of_the_type_is_good(access_signer: AccessTokenSigner) -> None:
    token = access_signer.token({"typ": "application/at+jwt"})

    assert access_tokens.verify(token, RESOURCE).subject == "user-id"


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ([RESOURCE], None),
        ([RESOURCE, USERINFO], None),
        ([], "audience"),
        ([USERINFO], "audience"),
        ([RESOURCE, "https://other.example.com/mcp"], "other_audience"),
    ],
)
def test_an_opaque_token_has_the_same_rule_for_its_resources(
    resources: list[str], reason: str | None
) -> None:
    if reason is None:
        access_tokens.check_resources(resources, RESOURCE)
    else:
        with pytest.raises(TokenRefused) as refused:
            access_tokens.check_resources(resources, RESOURCE)
        assert refused.value.reason == reason


def test_a_token_is_verified_once_and_few_are_cached(access_signer: AccessTokenSigner) -> None:
    token = access_signer.token()

    assert access_tokens.verify(token, RESOURCE) is access_tokens.verify(token, RESOURCE)
    assert access_tokens._verified.cache_info().maxsize == signed.MAX_CACHED


def test_an_error_report_shows_nothing_of_the_token(
    access_signer: AccessTokenSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("unforeseen")

    token = access_signer.token()
    monkeypatch.setattr(signed, "_datetime", raise_error)

    try:
        access_tokens.verify(token, RESOURCE)
    except RuntimeError:
        report = ExceptionReporter(None, *sys.exc_info())  # type: ignore[arg-type]

    report.filter = SafeExceptionReporterFilter()  # Django's default, as in a team's own project
    frames = [frame for frame in report.get_traceback_frames() if frame["filename"] != __file__]
    shown = "\n".join(str(value) for frame in frames for _, value in frame["vars"])
    assert len(frames) > 2
    for secret in [*token.split("."), access_signer.kid]:
        assert secret not in shown


def test_a_cached_token_is_still_for_its_own_resource_alone(access_signer: AccessTokenSigner) -> None:
    token = access_signer.token()
    access_tokens.verify(token, RESOURCE)

    assert reason_for(token, f"{RESOURCE}/") == "audience"


def test_a_cached_token_expires(access_signer: AccessTokenSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    token = access_signer.token()
    end = access_tokens.verify(token, RESOURCE).expires_at + timedelta(seconds=10)

    class EndOfLeeway(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return end

    monkeypatch.setattr(signed, "datetime", EndOfLeeway)

    with pytest.raises(TokenRefused) as refused:
        access_tokens.verify(token, RESOURCE)
    assert refused.value.reason == "expired"
    assert refused.value.verified_payload == {"sub": "user-id", "sid": "session-id"}


def test_the_issuer_comes_from_the_setting(
    auth: BetterAuth, access_signer: AccessTokenSigner, settings: Any
) -> None:
    settings.BETTER_AUTH_OAUTH_ISSUER = "https://issuer.example/x"

    assert access_tokens.verify(access_signer.token(iss="https://issuer.example/x"), RESOURCE)
    assert reason_for(access_signer.token()) == "issuer"
