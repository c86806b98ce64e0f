"""Verified tokens are cached for a while, and the cache never makes a bad token good."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from jwt.algorithms import OKPAlgorithm

from authn.jwt import keys, signed, tokens
from tests.fixtures.accounts.forgeries import reason_for
from tests.fixtures.accounts.signer import Signer

pytestmark = pytest.mark.django_db


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of verified signatures so far."""
    verify, verified = OKPAlgorithm.verify, []

    def verify_and_count(*args: Any) -> bool:
        verified.append(args)
        return verify(*args)

    monkeypatch.setattr(OKPAlgorithm, "verify", verify_and_count)
    return lambda: len(verified)


class Tomorrow(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(days=1)


def test_a_signature_is_verified_once_and_the_claims_are_cached(
    signer: Signer, signatures: Callable[[], int]
) -> None:
    token = signer.token()

    assert tokens.verify(token) == tokens.verify(token)
    assert signatures() == 1


def test_each_token_is_verified_separately(signer: Signer, signatures: Callable[[], int]) -> None:
    hers, his = signer.token(sub="she"), signer.token(sub="he")

    assert [tokens.verify(token).subject for token in (hers, his, hers)] == ["she", "he", "she"]
    assert signatures() == 2


def test_a_request_cannot_change_the_claims_that_another_request_reads(signer: Signer) -> None:
    token = signer.token(roles=["reader"])
    claims = tokens.verify(token).raw

    claims["roles"].append("admin")
    claims["sub"] = "somebody-else"

    again = tokens.verify(token)
    assert (again.raw["roles"], again.raw["sub"], again.subject) == (["reader"], "user-id", "user-id")


def test_a_cached_token_expires(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signer.token()
    tokens.verify(token)

    monkeypatch.setattr(signed, "datetime", Tomorrow)

    assert reason_for(token) == "expired"


def test_the_leeway_applies_to_a_cached_token_too(
    signer: Signer, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BETTER_AUTH_LEEWAY_SECONDS = timedelta(days=1).total_seconds()
    token = signer.token()
    tokens.verify(token)

    monkeypatch.setattr(signed, "datetime", Tomorrow)

    assert tokens.verify(token).expires_at < Tomorrow.now(UTC)


def test_a_cached_token_is_refused_after_its_key_was_deleted(signer: Signer) -> None:
    token = signer.token()
    tokens.verify(token)

    with connection.cursor() as cursor:
        cursor.execute('DELETE FROM "jwks" WHERE "id" = %s', [signer.kid])
    keys.clear_cache()  # like a refresh at the end of the TTL

    assert reason_for(token) == "unknown_kid"


def test_a_cached_token_is_refused_if_its_kid_has_another_key_now(signer: Signer) -> None:
    token = signer.token()
    tokens.verify(token)

    with connection.cursor() as cursor:
        another = json.dumps(Signer.unknown().public_jwk())
        cursor.execute('UPDATE "jwks" SET "publicKey" = %s WHERE "id" = %s', [another, signer.kid])
    keys.clear_cache()

    assert reason_for(token) == "signature"


def test_refused_tokens_are_not_cached(signer: Signer, signatures: Callable[[], int]) -> None:
    signed, _, _ = signer.token().rpartition(".")
    forged = f"{signed}.{signer.token(sub='she').rpartition('.')[2]}"

    assert [reason_for(forged), reason_for(forged)] == ["signature"] * 2
    assert signatures() == 2


def test_the_number_of_cached_tokens_is_limited(signer: Signer) -> None:
    for number in range(signed.MAX_CACHED + 1):
        tokens.verify(signer.token(sub=f"user-{number}"))

    assert tokens._verified.cache_info().currsize == signed.MAX_CACHED


def test_the_number_of_cached_headers_is_limited(signer: Signer) -> None:
    _, _, rest = signer.token().partition(".")

    for number in range(100):
        header = base64.urlsafe_b64encode(json.dumps({"kid": f"kid-{number}"}).encode()).decode().rstrip("=")
        assert reason_for(f"{header}.{rest}") == "unknown_kid"

    assert signed._header.cache_info().currsize <= 16
