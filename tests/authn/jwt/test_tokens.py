"""``tokens.verify``: which tokens are good, and why each forgery is not."""

import json
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from django.views.debug import ExceptionReporter
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jwt.api_jws import PyJWS
from pytest_django import DjangoAssertNumQueries

from authn.errors import TokenRefused
from authn.jwt import keys, signed, tokens
from tests.fixtures.accounts.forgeries import (
    FORGERIES,
    REQUIRED_CLAIMS,
    Forge,
    lifetime_of,
    reason_for,
    with_claims,
    with_dates,
    with_header,
)
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.environment import BETTER_AUTH_URL

pytestmark = pytest.mark.django_db

# --- Good tokens -----------------------------------------------------------------------------------


def test_a_good_token_gives_its_claims(signer: Signer) -> None:
    written = signer.claims(iat=int(time.time()) - 60, email=" Ada.Lovelace@Example.COM", sid="session-id")

    claims = tokens.verify(signer.raw(written))

    assert claims == tokens.Claims(
        subject="user-id",
        email="ada.lovelace@example.com",
        session_id="session-id",
        issued_at=datetime.fromtimestamp(written["iat"], UTC),
        expires_at=datetime.fromtimestamp(written["exp"], UTC),
        key_id=signer.kid,
        algorithm="EdDSA",
        payload=json.dumps(written),
    )


def test_a_token_of_better_auth_itself_is_good(person: Person) -> None:
    token = person.token()

    claims = tokens.verify(token)

    assert (claims.subject, claims.email, claims.algorithm) == (person.user_id, person.email, "EdDSA")
    assert claims.session_id == person.session_id
    assert (claims.expires_at - claims.issued_at).total_seconds() == 900
    assert claims.raw == jwt.decode(token, options={"verify_signature": False})


def padded(signer: Signer, length: int) -> str:
    """A good token with this many characters."""
    start, signature = signer.token().rpartition(".")[::2]
    room = length - len(start) - len(signature) - 1
    claims = signer.claims(picture="x" * (room * 3 // 4))
    while len(token := signer.raw(claims)) > length:
        claims["picture"] = claims["picture"][1:]
    return token


@pytest.mark.parametrize(
    "issue",
    [
        pytest.param(
            with_claims(aud=["https://other.example", BETTER_AUTH_URL]), id="one-of-several-audiences"
        ),
        pytest.param(with_dates(iat=-600, exp=-5), id="expired-within-the-leeway"),
        pytest.param(with_dates(iat=5), id="issued-in-the-future-within-the-leeway"),
        pytest.param(with_dates(nbf=5), id="not-before-within-the-leeway"),
        pytest.param(with_dates(exp=900.25), id="fractions-of-a-second"),
        pytest.param(
            lambda signer: signer.token(exp=signer.claims()["iat"] + 3600), id="lifetime-at-the-cap"
        ),
        pytest.param(with_header(typ="JWT"), id="typ-jwt"),
        pytest.param(with_claims(sub="42"), id="numeric-id"),
        pytest.param(with_claims(sub="0b8ad4dc-7a8a-4f0c-9a6c-1f2f3d4e5a6b"), id="uuid"),
        pytest.param(with_claims(sid=None), id="sid-null"),
        pytest.param(with_claims(email=" ada@example.com "), id="email-between-spaces"),
        pytest.param(with_claims(email="a" * 308 + "@example.com"), id="email-as-long-as-may-be"),
        pytest.param(with_claims(email="käthe@bücher.example"), id="email-beyond-ascii"),
        pytest.param(lambda signer: padded(signer, signed.MAX_TOKEN_LENGTH), id="as-long-as-may-be"),
    ],
)
def test_a_token_at_the_limits_is_good(signer: Signer, issue: Forge) -> None:
    assert tokens.verify(issue(signer)).key_id == signer.kid


def test_the_last_of_duplicate_members_counts(signer: Signer) -> None:
    # RFC 7515 §4 and RFC 7519 §4 leave the choice to us, if all our code makes the same choice.
    written = json.dumps(signer.claims())

    claims = tokens.verify(signer.raw(f'{written[:-1]}, "email": "eve@example.com"}}'.encode()))

    assert claims.email == "eve@example.com"


def test_a_configured_issuer_and_audience_replace_better_auths_origin(signer: Signer, settings: Any) -> None:
    settings.BETTER_AUTH_ISSUER = "https://issuer.example/with/slash/"
    settings.BETTER_AUTH_AUDIENCE = ["chat", "support"]

    claims = tokens.verify(signer.token(iss="https://issuer.example/with/slash/", aud="support"))

    assert claims.subject == "user-id"
    assert reason_for(signer.token()) == "issuer"


# --- Forgeries ------------------------------------------------------------------------------------

REASONS = {row.values[1] for row in FORGERIES}


@pytest.mark.parametrize(("forge", "reason"), FORGERIES)
def test_a_forged_token_is_refused_for_its_reason(signer: Signer, forge: Forge, reason: str) -> None:
    token = forge(signer)

    assert reason_for(token) == reason


@pytest.mark.parametrize("sid", [{}, {"sid": None}], ids=["missing", "null"])
def test_a_token_without_sid_is_refused_if_sid_is_required(
    signer: Signer, settings: Any, sid: dict[str, Any]
) -> None:
    settings.BETTER_AUTH_REQUIRE_SID = True

    assert reason_for(signer.raw(signer.claims() | sid)) == "missing_sid"
    assert tokens.verify(signer.token(sid="session-id")).session_id == "session-id"


def test_the_limits_come_from_the_settings(signer: Signer, settings: Any) -> None:
    late, long = with_dates(iat=-10, exp=-5)(signer), lifetime_of(1200)(signer)
    tokens.verify(late)
    tokens.verify(long)

    settings.BETTER_AUTH_LEEWAY_SECONDS = 1.0
    settings.BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS = 900.0

    assert reason_for(late) == "expired"
    assert reason_for(long) == "lifetime"


# --- Random input --------------------------------------------------------------------------------

random_input = hypothesis_settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
base64url = st.text("AZaz09-_", min_size=1, max_size=40)
edits = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 3),
        st.text("AQgw01-_.=é\0", max_size=3) | st.text(st.characters(), max_size=3),
    ),
    min_size=1,
    max_size=3,
)


@random_input
@given(text=st.text(st.characters(), max_size=80) | st.builds("{}.{}.{}".format, *[base64url] * 3))
def test_any_text_is_refused_without_another_error(signer: Signer, text: str) -> None:
    assert reason_for(text) in REASONS


@random_input
@given(changes=edits)
def test_any_change_to_a_real_token_is_refused_without_another_error(
    signer: Signer, changes: list[tuple[int, int, str]]
) -> None:
    real = changed = signer.token()
    for position, length, text in changes:
        changed = changed[:position] + text + changed[position + length :]

    if changed != real:
        assert reason_for(changed) in REASONS


@random_input
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c"]), any_json, max_size=2
    ),
    claims=st.dictionaries(
        st.sampled_from([*REQUIRED_CLAIMS, "nbf", "sid", "jti", "scope", "name"]), any_json, max_size=2
    ),
)
def test_any_json_in_a_signed_token_is_good_or_refused_without_another_error(
    signer: Signer, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    token = signer.raw(signer.claims() | claims, signer.header() | header)

    with suppress(TokenRefused):
        assert tokens.verify(token).raw.keys() == (signer.claims() | claims).keys()


# --- Queries and error reports ---------------------------------------------------------------------------


def test_verifying_queries_the_keys_only_once(
    signer: Signer, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        tokens.verify(signer.token())

    with django_assert_num_queries(0):
        tokens.verify(signer.token())
        reason_for(signer.token(exp=1))


@pytest.mark.parametrize(
    ("place", "name"),
    [(keys, "find"), (PyJWS, "_verify_signature"), (jwt.PyJWT, "decode"), (signed, "_datetime")],
)
def test_an_error_report_shows_nothing_of_the_token(
    signer: Signer, monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    def raise_error(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("unforeseen")

    token = signer.token(email="secret@example.com")
    monkeypatch.setattr(place, name, raise_error)

    try:
        tokens.verify(token)
    except RuntimeError:
        report = ExceptionReporter(None, *sys.exc_info())  # type: ignore[arg-type]

    frames = [frame for frame in report.get_traceback_frames() if frame["filename"] != __file__]
    frame_values = "\n".join(str(value) for frame in frames for _, value in frame["vars"])
    assert frames
    for secret in [*token.split("."), signer.kid, "secret@example.com"]:
        assert secret not in frame_values
