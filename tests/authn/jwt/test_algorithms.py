"""Every algorithm that Better Auth can sign with: with our own keys, and with Better Auth's."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from django.db import connection
from pytest_django import DjangoDbBlocker

from authn.jwt import keys, tokens
from tests.fixtures.accounts.forgeries import reason_for
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.accounts.signer import PRIVATE_KEYS, Signer, restored_jwks_table
from tests.fixtures.environment import BETTER_AUTH_URL

# --- Our own keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_a_token_of_every_algorithm_is_good(auth: BetterAuth, db: None, algorithm: str) -> None:
    signer = Signer.in_jwks_table(algorithm)

    assert tokens.verify(signer.token()).algorithm == algorithm


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES512"])
def test_a_key_without_alg_has_the_algorithm_of_its_curve(auth: BetterAuth, db: None, algorithm: str) -> None:
    signer = Signer.in_jwks_table(algorithm, alg=None)

    assert tokens.verify(signer.token()).algorithm == algorithm


@pytest.mark.parametrize("algorithms", [["EdDSA", "PS256", "RS256"], ["RS256", "EdDSA", "PS256"]])
def test_an_rsa_key_without_alg_has_the_first_rsa_algorithm_of_the_allow_list(
    auth: BetterAuth, db: None, settings: Any, algorithms: list[str]
) -> None:
    settings.BETTER_AUTH_ALGORITHMS = algorithms
    first, second = [name for name in algorithms if name != "EdDSA"]
    signer = Signer.in_jwks_table(first, alg=None)

    assert tokens.verify(signer.token()).algorithm == first
    assert reason_for(Signer(signer.kid, second, signer.private_key).token()) == "algorithm"


@pytest.mark.parametrize("column", ["given", None])
@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_an_algorithm_that_is_not_on_the_allow_list_is_refused(
    auth: BetterAuth, db: None, settings: Any, algorithm: str, column: str | None
) -> None:
    settings.BETTER_AUTH_ALGORITHMS = [name for name in PRIVATE_KEYS if name != algorithm]
    signer = Signer.in_jwks_table(algorithm, alg=column and algorithm)

    # An RSA key without alg is used with the other RSA algorithm.
    is_taken_for_another = column is None and algorithm in ("RS256", "PS256")
    assert reason_for(signer.token()) == ("algorithm" if is_taken_for_another else "unknown_kid")


# --- Unusable keys ----------------------------------------------------------------------


def jwk_of(algorithm: str, **changes: Any) -> str:
    members = Signer.unknown(algorithm).public_jwk() | changes
    return json.dumps({name: value for name, value in members.items() if value is not None})


def jwk_of_key(algorithm: str, private_key: Any) -> str:
    return json.dumps(Signer("", algorithm, private_key).public_jwk())


def private_jwk_of(algorithm: str) -> str:
    return str(jwt.get_algorithm_by_name(algorithm).to_jwk(PRIVATE_KEYS[algorithm]()))


UNUSABLE = {
    "not-json": ("EdDSA", "{'kty': 'OKP'}"),
    "empty": ("EdDSA", ""),
    "a-list": ("EdDSA", "[]"),
    "a-number": ("EdDSA", "7"),
    "null": (None, "null"),
    "a-string": ("EdDSA", '"OKP"'),
    "nested-deeply": ("EdDSA", "[" * 100_000 + "]" * 100_000),
    "a-secret": ("HS256", '{"kty": "oct", "k": "c2VjcmV0"}'),
    "a-secret-that-names-no-algorithm": (None, '{"kty": "oct", "k": "c2VjcmV0"}'),
    "a-secret-that-says-eddsa": ("EdDSA", '{"kty": "oct", "k": "c2VjcmV0"}'),
    "no-kty": (None, jwk_of("EdDSA", kty=None)),
    "no-x": ("EdDSA", jwk_of("EdDSA", x=None)),
    "x-is-a-number": ("EdDSA", jwk_of("EdDSA", x=7)),
    "x-is-not-base64": ("EdDSA", jwk_of("EdDSA", x="é")),
    "unknown-curve": ("EdDSA", jwk_of("EdDSA", crv="X25519")),
    "unknown-curve-and-no-algorithm": (None, jwk_of("EdDSA", crv="Ed448")),
    "curve-is-a-list": (None, jwk_of("EdDSA", crv=["Ed25519"])),
    "point-beside-the-curve": ("ES256", jwk_of("ES256", x="A" * 43)),
    "algorithm-of-another-kind-of-key": ("RS256", jwk_of("EdDSA")),
    "algorithm-of-another-curve": ("ES256", jwk_of_key("ES384", ec.generate_private_key(ec.SECP384R1()))),
    "algorithm-none": ("none", jwk_of("EdDSA")),
    "algorithm-that-nobody-knows": ("EdDSA2", jwk_of("EdDSA")),
    "short-rsa": ("RS256", jwk_of_key("RS256", rsa.generate_private_key(65537, 1024))),
    "private-eddsa": ("EdDSA", private_jwk_of("EdDSA")),
    "private-rsa": ("RS256", private_jwk_of("RS256")),
    "ed448-without-algorithm": (None, jwk_of_key("EdDSA", ed448.Ed448PrivateKey.generate())),
}


@pytest.mark.parametrize(("alg", "public_key"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_key_is_logged_and_other_keys_stay_usable(
    signer: Signer, caplog: pytest.LogCaptureFixture, alg: str | None, public_key: str
) -> None:
    broken = Signer.in_jwks_table(alg=alg, publicKey=public_key)

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert reason_for(broken.token()) == "unknown_kid"
    lines = [record.getMessage() for record in caplog.records if record.name == "authn.jwt.keys"]
    assert re.fullmatch(f"Signing key {broken.kid} is not usable: [A-Za-z]+", lines[0])


def test_an_unusable_key_has_a_reason() -> None:
    faults = {name: keys.why_unusable(public_key, alg) for name, (alg, public_key) in UNUSABLE.items()}

    assert all(faults.values())
    assert "private" in faults["private-eddsa"]
    assert "too short" in faults["short-rsa"]
    assert "BETTER_AUTH_ALGORITHMS" in faults["algorithm-none"]
    assert "JSONDecodeError" in faults["not-json"]
    assert keys.why_unusable(jwk_of("EdDSA"), "EdDSA") == ""


@pytest.mark.parametrize(
    ("column", "kid"), [("integer", "7"), ("uuid", "0b8ad4dc-7a8a-4f0c-9a6c-1f2f3d4e5a6b")]
)
def test_a_kid_may_be_a_number_or_a_uuid_in_the_table(
    auth: BetterAuth, db: None, column: str, kid: str
) -> None:
    """Ids of Better Auth's ``generateId: "serial"`` and ``"uuid"``. All of it is in the test's
    transaction."""
    signer = Signer.unknown()
    with connection.cursor() as cursor:
        cursor.execute('DELETE FROM "jwks"')
        cursor.execute(f'ALTER TABLE "jwks" ALTER COLUMN "id" TYPE {column} USING "id"::{column}')
        cursor.execute(
            'INSERT INTO "jwks" ("id", "publicKey", "privateKey", "createdAt", "alg") '
            "VALUES (%s, %s, '', now(), 'EdDSA')",
            [kid, json.dumps(signer.public_jwk())],
        )

    claims = tokens.verify(Signer(kid, "EdDSA", signer.private_key).token())

    assert claims.key_id == kid


# --- Better Auth's keys -----------------------------------------------------------------------------


@pytest.fixture
def no_live_key(auth: BetterAuth, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """All keys have expired, so Better Auth makes a new key for the next token."""
    with django_db_blocker.unblock(), restored_jwks_table():
        with connection.cursor() as cursor:
            cursor.execute('UPDATE "jwks" SET "expiresAt" = now() - interval \'1 minute\'')
        yield


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_a_token_of_better_auth_is_good_with_each_of_its_algorithms(
    no_live_key: None, start_better_auth: Callable[..., Any], settings: Any, algorithm: str
) -> None:
    with start_better_auth(BETTER_AUTH_URL=BETTER_AUTH_URL, BETTER_AUTH_JWT_ALG=algorithm) as running:
        person = running.sign_up()
        token = person.token()

        from_table = tokens.verify(token)
        settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_PRIVATE = "jwks", True
        settings.BETTER_AUTH_JWKS_URL = f"{running.origin}/api/auth/jwks"
        from_url = tokens.verify(token)

    assert from_table == from_url
    assert (from_table.algorithm, from_table.subject) == (algorithm, person.user_id)
    assert keys.find(from_table.key_id) is not None
