"""``tokens.verify``: which tokens are good, and why each forgery is not."""

import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.views.debug import ExceptionReporter
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jwt.api_jws import PyJWS
from jwt.utils import base64url_decode, raw_to_der_signature
from pytest_django import DjangoAssertNumQueries

from authn.errors import TokenRefused
from authn.jwt import keys, tokens
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.signer import Signer, part
from tests.fixtures.environment import BETTER_AUTH_URL

Forge = Callable[[Signer], str]

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


def with_claims(**changes: Any) -> Forge:
    """A token with these changed claims and a good signature."""
    return lambda signer: signer.raw(signer.claims() | changes)


def with_dates(**seconds: float) -> Forge:
    """The same for dates."""
    return lambda signer: signer.raw(
        signer.claims() | {name: time.time() + offset for name, offset in seconds.items()}
    )


def with_header(**changes: Any) -> Forge:
    """A token with this changed header and a good signature."""
    return lambda signer: signer.raw(header=signer.header(**changes))


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
        pytest.param(lambda signer: padded(signer, tokens.MAX_LENGTH), id="as-long-as-may-be"),
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


# --- Forgeries: structure --------------------------------------------------------------------------


def empty(signer: Signer) -> str:
    return ""


def of_two_parts(signer: Signer) -> str:
    return signer.token().rpartition(".")[0]


def of_four_parts(signer: Signer) -> str:
    return f"{signer.token()}.{part(b'more')}"


def encrypted_of_five_parts(signer: Signer) -> str:
    return f"{part(signer.header(enc='A256GCM'))}.{part(b'key')}.{part(b'iv')}.{part(b'text')}.{part(b'tag')}"


def not_base64(signer: Signer) -> str:
    return f"!{signer.token()[1:]}"


def base64_of_the_other_alphabet(signer: Signer) -> str:
    header, payload, signature = signer.token().split(".")
    return f"{header}.{payload}.+/{signature[2:]}"


def with_padding(signer: Signer) -> str:
    return f"{signer.token()}=="


def with_nul(signer: Signer) -> str:
    return f"{signer.token()}\0"


def with_a_newline_at_the_end(signer: Signer) -> str:
    return f"{signer.token()}\n"


def beyond_ascii(signer: Signer) -> str:
    return f"{signer.token()[:-1]}é"


def with_a_lone_surrogate(signer: Signer) -> str:
    return f"{signer.token()[:-1]}\ud800"


def padded(signer: Signer, length: int) -> str:
    """A good token with this many characters."""
    start, signature = signer.token().rpartition(".")[::2]
    room = length - len(start) - len(signature) - 1
    claims = signer.claims(picture="x" * (room * 3 // 4))
    while len(token := signer.raw(claims)) > length:
        claims["picture"] = claims["picture"][1:]
    return token


def too_long(signer: Signer) -> str:
    token = signer.raw(signer.claims(picture="x" * tokens.MAX_LENGTH))
    assert len(token) > tokens.MAX_LENGTH
    return token


def header_is_a_list(signer: Signer) -> str:
    return signer.raw(header=["EdDSA", signer.kid])


def header_is_a_string(signer: Signer) -> str:
    return signer.raw(header=b'"EdDSA"')


def header_is_not_json(signer: Signer) -> str:
    return signer.raw(header=b"{'alg': 'EdDSA'}")


def header_is_not_utf8(signer: Signer) -> str:
    return signer.raw(header=b'{"alg": "\xff"}')


def header_is_nested_deeply(signer: Signer) -> str:
    return signer.raw(header=b"[" * 2500 + b"]" * 2500)


def header_holds_a_huge_number(signer: Signer) -> str:
    return signer.raw(header=json.dumps(signer.header(x=0)).replace("0}", "9" * 5000 + "}").encode())


def header_names_two_keys(signer: Signer) -> str:
    return signer.raw(header=f'{{"alg": "EdDSA", "kid": "{signer.kid}", "kid": "unknown"}}'.encode())


def payload_is_a_list(signer: Signer) -> str:
    return signer.raw([signer.claims()])


def payload_is_not_json(signer: Signer) -> str:
    return signer.raw(b"iat=1&exp=2")


def payload_is_nested_deeply(signer: Signer) -> str:
    return signer.raw(b"[" * 2500 + b"]" * 2500)


def payload_is_compressed(signer: Signer) -> str:
    return signer.raw(b"\x1f\x8b\x08\x00\x00\x00\x00\x00")


STRUCTURE = [
    (empty, "malformed"),
    (of_two_parts, "malformed"),
    (of_four_parts, "malformed"),
    (encrypted_of_five_parts, "malformed"),
    (not_base64, "malformed"),
    (base64_of_the_other_alphabet, "malformed"),
    (with_padding, "malformed"),
    (with_nul, "malformed"),
    (with_a_newline_at_the_end, "malformed"),
    (beyond_ascii, "malformed"),
    (with_a_lone_surrogate, "malformed"),
    (too_long, "too_long"),
    (header_is_a_list, "malformed"),
    (header_is_a_string, "malformed"),
    (header_is_not_json, "malformed"),
    (header_is_not_utf8, "malformed"),
    (header_is_nested_deeply, "malformed"),
    (header_holds_a_huge_number, "malformed"),
    (header_names_two_keys, "unknown_kid"),
    (payload_is_a_list, "malformed"),
    (payload_is_not_json, "malformed"),
    (payload_is_nested_deeply, "malformed"),
    (payload_is_compressed, "malformed"),
]

# --- Forgeries: header -----------------------------------------------------------------------------


def unsigned(signer: Signer) -> str:
    return f"{part(signer.header(alg='none'))}.{part(signer.claims())}."


def unsigned_with_some_signature(signer: Signer) -> str:
    return f"{part(signer.header(alg='none'))}.{part(signer.claims())}.{part(b'0')}"


def signed_with_the_public_key_as_secret(signer: Signer, secret: bytes) -> str:
    signed = f"{part(signer.header(alg='HS256'))}.{part(signer.claims())}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def hs256_with_the_public_jwk(signer: Signer) -> str:
    return signed_with_the_public_key_as_secret(signer, json.dumps(signer.public_jwk()).encode())


def hs256_with_the_public_pem(signer: Signer) -> str:
    public_key = signer.private_key.public_key()
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return signed_with_the_public_key_as_secret(signer, pem)


def without_alg(signer: Signer) -> str:
    return signer.raw(header={"kid": signer.kid})


def without_kid(signer: Signer) -> str:
    return signer.raw(header={"alg": "EdDSA"})


def rsa_key_of_another_padding(signer: Signer) -> str:
    rsa = Signer.in_jwks_table("RS256")
    return Signer(rsa.kid, "PS256", rsa.private_key).token()


def attacker(signer: Signer) -> Signer:
    """An attacker's own key, with a known kid."""
    return Signer(signer.kid, "EdDSA", Signer.unknown().private_key)


def with_a_key_in_the_header(signer: Signer) -> str:
    forger = attacker(signer)
    return forger.raw(header=forger.header(jwk=forger.public_jwk() | {"kid": signer.kid, "alg": "EdDSA"}))


def with_the_address_of_a_key(signer: Signer) -> str:
    forger = attacker(signer)
    return forger.raw(header=forger.header(jku="https://evil.example/jwks.json"))


def with_the_address_of_a_certificate(signer: Signer) -> str:
    forger = attacker(signer)
    return forger.raw(header=forger.header(x5u="https://evil.example/cert.pem"))


def with_a_certificate(signer: Signer) -> str:
    forger = attacker(signer)
    return forger.raw(header=forger.header(x5c=["MIIB"], x5t="x"))


def with_an_unknown_key_in_the_header(signer: Signer) -> str:
    forger = Signer.unknown()
    return forger.raw(header=forger.header(jwk=forger.public_jwk()))


HEADER = [
    # Other token types of Better Auth.
    pytest.param(with_header(typ="at+jwt"), "type", id="typ-access-token"),
    pytest.param(with_header(typ="logout+jwt"), "type", id="typ-logout-token"),
    pytest.param(with_header(typ="better-auth.session-cache+jwt"), "type", id="typ-session-cache"),
    pytest.param(with_header(typ="jwt "), "type", id="typ-nearly"),
    pytest.param(with_header(typ=None), "type", id="typ-null"),
    pytest.param(with_header(typ=["JWT"]), "type", id="typ-list"),
    pytest.param(with_header(crit=["exp"], exp=1), "malformed", id="crit-unknown"),
    pytest.param(with_header(crit=[]), "malformed", id="crit-empty"),
    pytest.param(with_header(crit=["b64"], b64=True), "critical_header", id="crit-that-pyjwt-knows"),
    pytest.param(with_header(b64=True), "critical_header", id="b64"),
    pytest.param(with_header(crit=["b64"], b64=False), "critical_header", id="b64-detached"),
    pytest.param(unsigned, "malformed", id="alg-none"),
    pytest.param(unsigned_with_some_signature, "algorithm", id="alg-none-with-some-signature"),
    pytest.param(hs256_with_the_public_jwk, "algorithm", id="hs256-with-the-public-jwk"),
    pytest.param(hs256_with_the_public_pem, "algorithm", id="hs256-with-the-public-pem"),
    pytest.param(with_header(alg="ES256"), "algorithm", id="alg-of-another-key"),
    pytest.param(with_header(alg="eddsa"), "algorithm", id="alg-lower-case"),
    pytest.param(with_header(alg="Ed25519"), "algorithm", id="alg-synonym"),
    pytest.param(with_header(alg=None), "algorithm", id="alg-null"),
    pytest.param(with_header(alg=7), "algorithm", id="alg-number"),
    pytest.param(with_header(alg=["EdDSA"]), "algorithm", id="alg-list"),
    pytest.param(without_alg, "algorithm", id="alg-missing"),
    pytest.param(rsa_key_of_another_padding, "algorithm", id="alg-of-another-padding"),
    pytest.param(without_kid, "malformed_kid", id="kid-missing"),
    pytest.param(with_header(kid=None), "malformed", id="kid-null"),
    pytest.param(with_header(kid=7), "malformed", id="kid-number"),
    pytest.param(with_header(kid=["x"]), "malformed", id="kid-list"),
    pytest.param(with_header(kid=""), "malformed_kid", id="kid-empty"),
    pytest.param(with_header(kid="a\0b"), "malformed_kid", id="kid-nul"),
    pytest.param(with_header(kid="' OR 1=1 --"), "malformed_kid", id="kid-sql"),
    pytest.param(with_header(kid="../../dev/null"), "malformed_kid", id="kid-path"),
    pytest.param(with_header(kid="\ud800"), "malformed_kid", id="kid-lone-surrogate"),
    pytest.param(with_header(kid="x" * 129), "malformed_kid", id="kid-oversized"),
    pytest.param(with_header(kid="x" * 128), "unknown_kid", id="kid-long"),
    pytest.param(with_header(kid="unknown"), "unknown_kid", id="kid-unknown"),
    pytest.param(with_a_key_in_the_header, "signature", id="jwk-injected"),
    pytest.param(with_the_address_of_a_key, "signature", id="jku-injected"),
    pytest.param(with_the_address_of_a_certificate, "signature", id="x5u-injected"),
    pytest.param(with_a_certificate, "signature", id="x5c-injected"),
    pytest.param(with_an_unknown_key_in_the_header, "unknown_kid", id="jwk-injected-under-its-own-kid"),
]

# --- Forgeries: signature --------------------------------------------------------------------------


def signed_with_another_key(signer: Signer) -> str:
    return attacker(signer).token()


def signed_with_another_known_key(signer: Signer) -> str:
    other = Signer.in_jwks_table()
    return Signer(signer.kid, "EdDSA", other.private_key).token()


def stripped(signer: Signer) -> str:
    return f"{signer.token().rpartition('.')[0]}."


def with_signature(token: str, change: Callable[[bytes], bytes]) -> str:
    start, signature = token.rpartition(".")[::2]
    return f"{start}.{part(change(base64url_decode(signature)))}"


def truncated(signer: Signer) -> str:
    return with_signature(signer.token(), lambda signature: signature[:-1])


def lengthened(signer: Signer) -> str:
    return with_signature(signer.token(), lambda signature: signature + b"0")


def one_bit_flipped(signer: Signer) -> str:
    return with_signature(signer.token(), lambda signature: bytes([signature[0] ^ 1]) + signature[1:])


def non_canonical(signer: Signer) -> str:
    """The same 64 bytes with another last character: four of its bits are unused."""
    return f"{signer.token()[:-1]}{ {'A': 'B', 'Q': 'R', 'g': 'h', 'w': 'x'}[signer.token()[-1]] }"


def payload_of_another_token(signer: Signer) -> str:
    header, _, signature = signer.token().split(".")
    return f"{header}.{signer.token(sub='somebody-else').split('.')[1]}.{signature}"


def header_of_another_token(signer: Signer) -> str:
    other = Signer.in_jwks_table()
    return f"{other.token().split('.')[0]}.{signer.token().split('.', 1)[1]}"


def all_zero(signer: Signer) -> str:
    """CVE-2022-21449: without a check, r = s = 0 is valid for every message."""
    return with_signature(Signer.in_jwks_table("ES256").token(), lambda signature: bytes(64))


def ecdsa_in_der(signer: Signer) -> str:
    """OpenSSL's signature format instead of the format of JWS."""

    def der(signature: bytes) -> bytes:
        return raw_to_der_signature(signature, ec.SECP256R1())

    return with_signature(Signer.in_jwks_table("ES256").token(), der)


SIGNATURE = [
    (signed_with_another_key, "signature"),
    (signed_with_another_known_key, "signature"),
    (stripped, "malformed"),
    (truncated, "signature"),
    (lengthened, "signature"),
    (one_bit_flipped, "signature"),
    (non_canonical, "malformed"),
    (payload_of_another_token, "signature"),
    (header_of_another_token, "signature"),
    (all_zero, "signature"),
    (ecdsa_in_der, "signature"),
]

# --- Forgeries: claims, with a good signature ------------------------------------------------------

REQUIRED = ["exp", "iat", "iss", "aud", "sub", "email"]


def lifetime_of(seconds: int) -> Forge:
    def forge(signer: Signer) -> str:
        now = int(time.time())
        return signer.raw(signer.claims() | {"iat": now, "exp": now + seconds})

    return forge


def without(name: str) -> Forge:
    return lambda signer: signer.token(**{name: None})


CLAIMS = [
    *[pytest.param(without(name), f"missing_{name}", id=f"{name}-missing") for name in REQUIRED],
    *[pytest.param(with_claims(**{name: None}), f"missing_{name}", id=f"{name}-null") for name in REQUIRED],
    pytest.param(with_dates(iat=-911, exp=-11), "expired", id="exp-past"),
    pytest.param(with_claims(exp=900), "expired", id="exp-1970"),
    pytest.param(with_claims(exp=-1), "expired", id="exp-negative"),
    pytest.param(with_claims(exp=True), "expired", id="exp-boolean"),
    pytest.param(with_claims(exp="soon"), "malformed", id="exp-text"),
    pytest.param(with_claims(exp=str(int(time.time()) + 900)), "malformed_date", id="exp-string"),
    pytest.param(with_claims(exp=float("nan")), "malformed", id="exp-nan"),
    pytest.param(with_claims(exp=float("inf")), "malformed", id="exp-infinity"),
    pytest.param(with_claims(exp=[4102444800]), "malformed", id="exp-list"),
    pytest.param(with_claims(exp=10**12), "malformed_date", id="exp-in-the-year-33658"),
    pytest.param(with_claims(exp=10**18), "malformed_date", id="exp-beyond-the-calendar"),
    pytest.param(with_claims(exp=10**300), "malformed_date", id="exp-huge"),
    pytest.param(
        lambda signer: signer.raw(
            json.dumps(signer.claims() | {"exp": 0}).replace('"exp": 0', '"exp": ' + "9" * 5000).encode()
        ),
        "malformed",
        id="exp-of-5000-digits",
    ),
    pytest.param(with_claims(iat=str(int(time.time()))), "malformed_date", id="iat-string"),
    pytest.param(with_claims(iat=True), "malformed_date", id="iat-boolean"),
    pytest.param(with_claims(iat=float("nan")), "malformed", id="iat-nan"),
    pytest.param(with_claims(iat=float("-inf")), "malformed", id="iat-minus-infinity"),
    pytest.param(with_claims(iat={}), "malformed", id="iat-object"),
    pytest.param(with_claims(iat=-1), "lifetime", id="iat-negative"),
    pytest.param(with_claims(iat=-(10**300)), "malformed_date", id="iat-hugely-negative"),
    pytest.param(with_claims(iat=10**300), "not_yet_valid", id="iat-huge"),
    pytest.param(with_dates(iat=15), "not_yet_valid", id="iat-in-the-future"),
    pytest.param(with_dates(nbf=15), "not_yet_valid", id="nbf-in-the-future"),
    pytest.param(with_claims(nbf="later"), "malformed", id="nbf-text"),
    pytest.param(with_claims(nbf=float("inf")), "malformed", id="nbf-infinity"),
    pytest.param(with_claims(nbf=None), "malformed", id="nbf-null"),
    pytest.param(with_dates(iat=5, exp=-5), "lifetime", id="exp-before-iat"),
    pytest.param(lifetime_of(0), "lifetime", id="exp-at-iat"),
    pytest.param(lifetime_of(3601), "lifetime", id="lifetime-over-the-cap"),
    pytest.param(lifetime_of(315_360_000), "lifetime", id="lifetime-of-ten-years"),
    pytest.param(with_claims(iss=f"{BETTER_AUTH_URL}/"), "issuer", id="iss-with-a-slash"),
    pytest.param(with_claims(iss=f"{BETTER_AUTH_URL}/api/auth"), "issuer", id="iss-with-a-path"),
    pytest.param(with_claims(iss=BETTER_AUTH_URL.upper()), "issuer", id="iss-upper-case"),
    pytest.param(with_claims(iss="https://evil.example"), "issuer", id="iss-other-host"),
    pytest.param(with_claims(iss=[BETTER_AUTH_URL]), "issuer", id="iss-list"),
    pytest.param(with_claims(iss=""), "issuer", id="iss-empty"),
    pytest.param(with_claims(aud="https://other.example"), "audience", id="aud-another-service"),
    pytest.param(with_claims(aud=["https://other.example"]), "audience", id="aud-list-without-ours"),
    pytest.param(with_claims(aud=[]), "missing_aud", id="aud-empty-list"),
    pytest.param(with_claims(aud=""), "missing_aud", id="aud-empty"),
    pytest.param(with_claims(aud=[BETTER_AUTH_URL, 7]), "audience", id="aud-list-with-a-number"),
    pytest.param(with_claims(aud={BETTER_AUTH_URL: True}), "audience", id="aud-object"),
    pytest.param(with_claims(aud=f"{BETTER_AUTH_URL}/"), "audience", id="aud-with-a-slash"),
    pytest.param(with_claims(aud="better-auth:session-cache"), "audience", id="aud-session-cache"),
    pytest.param(with_claims(sub=42), "subject", id="sub-number"),
    pytest.param(with_claims(sub=["user-id"]), "subject", id="sub-list"),
    pytest.param(with_claims(sub=""), "subject", id="sub-empty"),
    pytest.param(with_claims(sub="a\0b"), "subject", id="sub-nul"),
    pytest.param(with_claims(sub="user-id\n"), "subject", id="sub-newline"),
    pytest.param(with_claims(sub="x" * 129), "subject", id="sub-too-long"),
    pytest.param(with_claims(sub="ada@example.com"), "subject", id="sub-address"),
    pytest.param(with_claims(email=""), "email", id="email-empty"),
    pytest.param(with_claims(email="   "), "email", id="email-blank"),
    pytest.param(with_claims(email=7), "email", id="email-number"),
    pytest.param(with_claims(email=["ada@example.com"]), "email", id="email-list"),
    pytest.param(with_claims(email="ada@example.com\0"), "email", id="email-nul"),
    pytest.param(with_claims(email="ada@example.com\nX: y"), "email", id="email-newline"),
    pytest.param(with_claims(email="\ud800@example.com"), "email", id="email-lone-surrogate"),
    pytest.param(with_claims(email="\u202eada@example.com"), "email", id="email-right-to-left"),
    pytest.param(with_claims(email="a" * 309 + "@example.com"), "email", id="email-too-long"),
    pytest.param(with_claims(azp="client"), "other_token_kind", id="azp"),
    pytest.param(with_claims(client_id="client"), "other_token_kind", id="client_id"),
    pytest.param(with_claims(scope="openid"), "other_token_kind", id="scope"),
    pytest.param(with_claims(scope=None), "other_token_kind", id="scope-null"),
    pytest.param(with_claims(sid=7), "sid", id="sid-number"),
    pytest.param(with_claims(sid=True), "sid", id="sid-boolean"),
    pytest.param(with_claims(sid="a\0b"), "sid", id="sid-nul"),
    pytest.param(with_claims(sid=""), "sid", id="sid-empty"),
    pytest.param(with_claims(sid=["session-id"]), "sid", id="sid-list"),
    pytest.param(with_claims(sid={"id": "session-id"}), "sid", id="sid-object"),
    pytest.param(with_claims(sid="x" * 129), "sid", id="sid-too-long"),
    pytest.param(with_claims(sid="token.signature="), "sid", id="sid-session-cookie"),
    pytest.param(with_claims(jti=7), "malformed", id="jti-number"),
]

FORGERIES: list[Any] = [
    *[pytest.param(forge, reason, id=forge.__name__) for forge, reason in STRUCTURE],
    *HEADER,
    *[pytest.param(forge, reason, id=forge.__name__) for forge, reason in SIGNATURE],
    *CLAIMS,
]
REASONS = {row.values[1] for row in FORGERIES}


def reason_for(token: str) -> str:
    """The reason of the refusal. Any other exception fails the test."""
    with pytest.raises(TokenRefused) as refused:
        tokens.verify(token)
    assert str(refused.value.detail) == "Invalid or expired JWT token"
    return refused.value.reason


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
        st.sampled_from([*REQUIRED, "nbf", "sid", "jti", "scope", "name"]), any_json, max_size=2
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
    [(keys, "find"), (PyJWS, "_verify_signature"), (jwt.PyJWT, "decode"), (tokens, "_datetime")],
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
