"""BETTER_AUTH_KEYS=secret: tokens that a team's own program signs with HS256."""

import hmac
import json
from typing import Any

import jwt
import pytest

from authn.jwt import keys, tokens
from tests.fixtures.accounts.forgeries import reason_for
from tests.fixtures.accounts.signer import Signer, part

SECRET = "a secret of thirty-two characters or more"
NO_ONE = Signer("", "HS256", SECRET)


@pytest.fixture(autouse=True)
def _secret(settings: Any) -> None:
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_SECRET = "secret", SECRET


@pytest.mark.parametrize("kid", [None, "", "2026-11", "../../etc/passwd"])
def test_a_token_signed_with_the_secret_is_good_with_any_kid(kid: str | None) -> None:
    token = jwt.encode(NO_ONE.claims(), SECRET, "HS256", headers={} if kid is None else {"kid": kid})

    claims = tokens.verify(token)

    assert (claims.subject, claims.algorithm) == ("user-id", "HS256")
    assert claims.key_id == keys.SECRET_KID


@pytest.mark.parametrize("other", [SECRET + "!", SECRET.upper(), SECRET * 2])
def test_a_token_signed_with_another_secret_is_refused(other: str) -> None:
    assert reason_for(jwt.encode(NO_ONE.claims(), other, "HS256")) == "signature"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_than_hs256_is_refused(algorithm: str) -> None:
    token = jwt.encode(NO_ONE.claims(), SECRET * 2, algorithm)

    assert reason_for(token) == "algorithm"


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_token_signed_with_a_key_pair_is_refused(algorithm: str) -> None:
    assert reason_for(Signer.unknown(algorithm).token()) == "algorithm"


@pytest.mark.django_db
@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_public_key_does_not_work_as_the_secret(settings: Any, auth: Any, algorithm: str) -> None:
    """Everybody can read the public key at /jwks. It is used as an HMAC secret here, in each of its
    formats."""
    settings.BETTER_AUTH_KEYS = "database"
    signer = Signer.in_jwks_table(algorithm)
    assert keys.find(signer.kid)
    jwk = signer.public_jwk()

    for secret in (json.dumps(jwk), jwk.get("x") or jwk["n"]):
        signed = f"{part({'alg': 'HS256', 'kid': signer.kid})}.{part(signer.claims())}"
        signature = hmac.digest(secret.encode(), signed.encode(), "sha256")
        assert reason_for(f"{signed}.{part(signature)}") == "algorithm"


def test_better_auths_session_cache_is_refused_as_a_token() -> None:
    """cookieCache with strategy "jwt" is signed with the same secret, and has no iss and no aud."""
    cache = {"session": {"session": {"id": "session-id"}, "user": {"id": "user-id"}}, "version": "1"}

    lifetime = {name: NO_ONE.claims()[name] for name in ("iat", "exp")}

    assert reason_for(jwt.encode(cache | lifetime, SECRET, "HS256")) == "missing_iss"
    typed = jwt.encode(NO_ONE.claims(), SECRET, "HS256", headers={"typ": "better-auth.session-cache+jwt"})
    assert reason_for(typed) == "type"
