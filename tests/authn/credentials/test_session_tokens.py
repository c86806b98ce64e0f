"""Signed session tokens: test vectors from Better Auth, and values that are refused."""

import base64
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from authn.credentials import session_tokens
from authn.errors import TokenRefused
from tests.fixtures.accounts.session_tokens import signed

# Cookies of a real Better Auth 1.7.25, with a secret that is used nowhere else.
SECRET = "0123456789abcdef0123456789abcdef0123"
TOKEN, SIGNATURE = "t1FDfnoI9TL9l260v0Cc7S24ebQkLrTg", "qfqNkKW+RLz/3ssbBG/z6fCVX0RcjGUqazRVjSgZ4jU="
COOKIE = "t1FDfnoI9TL9l260v0Cc7S24ebQkLrTg.qfqNkKW%2BRLz%2F3ssbBG%2Fz6fCVX0RcjGUqazRVjSgZ4jU%3D"
SECOND_TOKEN = "lWh6ol0Lo1AlGwKY0TM5YPN2hGeUUcC4"
SECOND_COOKIE = f"{SECOND_TOKEN}.kJTWvsiAPC4b3GlP3L4iH2Cozq64iEW3lVeo%2FaYWtCE%3D"


@pytest.fixture(autouse=True)
def _secret(settings: Any) -> None:
    settings.BETTER_AUTH_SECRET = SECRET


@pytest.mark.parametrize(("cookie", "token"), [(COOKIE, TOKEN), (SECOND_COOKIE, SECOND_TOKEN)])
def test_better_auths_cookie_verifies_and_gives_its_token(cookie: str, token: str) -> None:
    assert session_tokens.verify(cookie) == token


def test_the_value_may_already_be_decoded_as_from_the_bearer_plugin() -> None:
    assert session_tokens.verify(f"{TOKEN}.{SIGNATURE}") == TOKEN


def test_the_signature_follows_the_last_dot() -> None:
    assert session_tokens.verify(signed("a.b.c", SECRET)) == "a.b.c"


FORGED = {
    "another secret": (signed(TOKEN, "another" * 6), "signature"),
    "no secret": (signed(TOKEN, ""), "signature"),
    "of another token": (f"{TOKEN}.{SECOND_COOKIE.partition('.')[2]}", "signature"),
    "another token": (f"{SECOND_TOKEN}.{SIGNATURE}", "signature"),
    "token in upper case": (f"{TOKEN.upper()}.{SIGNATURE}", "signature"),
    "a spelling of the same bytes": (f"{TOKEN}.{SIGNATURE[:-2]}V=", "signature"),
    "one bit": (f"{TOKEN}.r{SIGNATURE[1:]}", "signature"),
    "encoded twice": (quote(COOKIE), "malformed"),
    "truncated": (COOKIE[:-4], "malformed"),
    "unpadded": (f"{TOKEN}.{SIGNATURE[:-1]}", "malformed"),
    "base64url": (f"{TOKEN}.{SIGNATURE.replace('+', '-').replace('/', '_')}", "malformed"),
    "plus read as a space": (f"{TOKEN}.{SIGNATURE.replace('+', ' ')}", "malformed"),
    "hex": (f"{TOKEN}.{base64.b64decode(SIGNATURE).hex()}", "malformed"),
    "signature alone": (SIGNATURE, "malformed"),
    "token alone": (TOKEN, "malformed"),
    "empty token": (signed("", SECRET), "malformed"),
    "empty signature": (f"{TOKEN}.", "malformed"),
    "empty": ("", "malformed"),
    "a dot": (".", "malformed"),
    "dot behind": (f"{TOKEN}.{SIGNATURE}.", "malformed"),
    "quoted": (f'"{COOKIE}"', "malformed"),
    "with an attribute": (f"{COOKIE}; Path=/", "malformed"),
    "line behind": (f"{COOKIE}%0A", "malformed"),
    "space before": (f" {COOKIE}", "malformed"),
    "NUL, signed": (signed("a\0b", SECRET), "malformed"),
    "NUL, encoded": (quote(signed("a\0b", SECRET)), "malformed"),
    "not ASCII, signed": (signed("é", SECRET), "malformed"),
    "not UTF-8": (f"%ff.{SIGNATURE}", "malformed"),
    "surrogate": (signed("\ud800", SECRET), "malformed"),
    "not ASCII in the signature": (f"{TOKEN}.é{SIGNATURE[1:]}", "malformed"),
    "a JWT": ("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0." + "A" * 86, "malformed"),
    "too long": (signed("a" * 8192, SECRET), "too_long"),
}


@pytest.mark.parametrize(("value", "reason"), FORGED.values(), ids=FORGED)
def test_every_other_value_is_refused(value: str, reason: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        session_tokens.verify(value)

    assert refused.value.reason == reason


@given(st.text() | st.binary().map(lambda value: value.decode("latin1")))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_raises_only_a_refusal(value: str) -> None:
    for read in (session_tokens.verify, session_tokens.check_unsigned):
        try:
            read(value)
        except TokenRefused:
            continue
        assert read is session_tokens.check_unsigned


def test_only_the_first_of_rotated_secrets_verifies_as_in_better_auth(settings: Any) -> None:
    settings.BETTER_AUTH_SECRETS = f"3: the newest:with a colon ,2:older,1:{SECRET}"

    assert session_tokens.verify(signed(TOKEN, "the newest:with a colon")) == TOKEN
    for old in (SECRET, "older"):
        with pytest.raises(TokenRefused):
            session_tokens.verify(signed(TOKEN, old))


def test_without_a_secret_no_signature_is_accepted(settings: Any) -> None:
    settings.BETTER_AUTH_SECRET = ""

    with pytest.raises(TokenRefused) as refused:
        session_tokens.verify(signed(TOKEN, ""))

    assert refused.value.reason == "no_secret"


@pytest.mark.parametrize("value", ["", "a b", "a\0", "é", "a.b", "a/b", "x" * 129, "%41"])
def test_an_unsigned_token_has_the_form_of_an_id(value: str) -> None:
    with pytest.raises(TokenRefused):
        session_tokens.check_unsigned(value)
