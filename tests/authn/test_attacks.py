"""More forgeries than in fixtures/accounts/forgeries.py, and attacks on the whole request.

Each case names the reason of its refusal.

Keys and key ids, algorithms, token types, forged and malleable signatures, duplicate members, malformed
numbers, look-alike characters, another user's session, headers.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from django.test import Client
from jwt.utils import base64url_decode

from authn.errors import TokenRefused
from authn.jwt import keys, signed, tokens
from tests.fixtures.accounts.forgeries import (
    Forge,
    attacker,
    reason_for,
    with_claims,
    with_header,
    with_signature,
)
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, body_of, post
from tests.fixtures.accounts.signer import P256_ORDER, Signer, part
from tests.fixtures.environment import BETTER_AUTH_URL

pytestmark = pytest.mark.django_db

# --- Structure -------------------------------------------------------------------------------------


def split(change: Callable[[str, str, str], str]) -> Forge:
    """A good token whose parts are joined differently."""
    return lambda signer: change(*signer.token().split("."))


def in_json(header: str, payload: str, signature: str) -> str:
    """RFC 7515 §7.2.2: the same token as JSON."""
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


def nested(signer: Signer) -> str:
    """RFC 7519 §11.2: a token whose payload is a token."""
    return signer.raw(signer.token().encode(), signer.header(cty="JWT"))


def spare_bits(segment: str) -> str:
    """Other text for the same bytes: the last character has unused bits."""
    return segment[:-1] + chr(ord(segment[-1]) + 1)


def uneven(signer: Signer, which: int) -> str:
    """A header or payload that ends in such a character, which is changed after it was signed."""
    written = [json.dumps(signer.header()), json.dumps(signer.claims())]
    written[which] += " " * (-(len(written[which]) - 1) % 3)
    segments = signer.raw(written[1].encode(), written[0].encode()).split(".")
    segments[which] = spare_bits(segments[which])
    return ".".join(segments)


STRUCTURE = [
    pytest.param(split(lambda h, p, s: f"{h}..{s}"), "malformed", id="payload-detached"),
    pytest.param(split(lambda h, p, s: f".{p}.{s}"), "malformed", id="header-missing"),
    pytest.param(split(lambda h, p, s: f"{h}.{p}.{s}."), "malformed", id="dot-at-the-end"),
    pytest.param(split(lambda h, p, s: f"{h}=.{p}.{s}"), "malformed", id="padded-header"),
    pytest.param(split(lambda h, p, s: f"{h}.{p}==.{s}"), "malformed", id="padded-payload"),
    pytest.param(split(lambda h, p, s: f"{h}. {p}.{s}"), "malformed", id="space-inside"),
    pytest.param(split(lambda h, p, s: f"{h}.{p[:9]}\r\n{p[9:]}.{s}"), "malformed", id="folded"),
    pytest.param(split(lambda h, p, s: f"\ufeff{h}.{p}.{s}"), "malformed", id="byte-order-mark"),
    pytest.param(split(lambda h, p, s: f"{h}%2E{p}%2E{s}"), "malformed", id="percent-encoded"),
    pytest.param(split(lambda h, p, s: f"{h}。{p}。{s}"), "malformed", id="ideographic-full-stops"),
    pytest.param(split(lambda h, p, s: f"{h}.{p}.{s}.{p}.{s}"), "malformed", id="five-parts-of-three"),
    pytest.param(split(in_json), "malformed", id="json-serialization"),
    pytest.param(split(lambda h, p, s: f"{p}.{h}.{s}"), "malformed_kid", id="header-and-payload-swapped"),
    pytest.param(nested, "malformed", id="nested"),
    pytest.param(lambda signer: uneven(signer, 0), "malformed", id="spare-bits-in-the-header"),
    pytest.param(lambda signer: uneven(signer, 1), "malformed", id="spare-bits-in-the-payload"),
    pytest.param(
        lambda signer: signer.raw(b"\xef\xbb\xbf{}"), "missing_exp", id="payload-with-a-byte-order-mark"
    ),
    pytest.param(
        lambda signer: signer.raw('{"exp":1}'.encode("utf-16")), "missing_iat", id="payload-in-utf-16"
    ),
    pytest.param(lambda signer: signer.raw(b"null"), "malformed", id="payload-null"),
    pytest.param(lambda signer: signer.raw(b"{} {}"), "malformed", id="payload-of-two-objects"),
    pytest.param(lambda signer: signer.raw(b"{'exp': 1}"), "malformed", id="payload-in-single-quotes"),
]

# --- Keys and algorithms ---------------------------------------------------------------------------


def with_the_secret_in_the_header(signer: Signer) -> str:
    """A key that anybody can make, and a signature with it."""
    return Signer(signer.kid, "EdDSA", Signer.unknown().private_key).raw(
        header=signer.header(alg="HS256", jwk={"kty": "oct", "k": part(b"forged")})
    )


def with_header_text(text: str) -> Forge:
    """A token with this header as text, with the real kid in it."""
    return lambda signer: signer.raw(header=(text % {"kid": signer.kid}).encode())


KEYS = [
    pytest.param(with_the_secret_in_the_header, "algorithm", id="jwk-of-a-secret"),
    pytest.param(
        lambda s: attacker(s).raw(header=s.header(jwk=json.dumps(attacker(s).public_jwk()))),
        "signature",
        id="jwk-as-text",
    ),
    pytest.param(
        lambda s: attacker(s).raw(header=s.header(jku=f"{BETTER_AUTH_URL}@evil.example/jwks")),
        "signature",
        id="jku-look-alike",
    ),
    pytest.param(
        lambda s: attacker(s).raw(header=s.header(jku="file:///dev/null")), "signature", id="jku-file"
    ),
    pytest.param(
        lambda s: attacker(s).raw(header=s.header(x5c=[], x5t="", **{"x5t#S256": ""})),
        "signature",
        id="x5c-empty",
    ),
    pytest.param(with_header(kid=keys.SECRET_KID), "unknown_kid", id="kid-of-the-secret"),
    pytest.param(lambda s: s.raw(header=s.header(kid=s.kid.upper())), "unknown_kid", id="kid-upper-case"),
    pytest.param(lambda s: s.raw(header=s.header(kid=f"{s.kid}\n")), "malformed_kid", id="kid-newline"),
    pytest.param(lambda s: s.raw(header=s.header(kid=f" {s.kid}")), "malformed_kid", id="kid-space"),
    pytest.param(
        lambda s: s.raw(header=s.header(kid=f"{s.kid}\u200b")), "malformed_kid", id="kid-zero-width"
    ),
    pytest.param(lambda s: s.raw(header=s.header(kid=f"{s.kid}%00")), "malformed_kid", id="kid-percent"),
    pytest.param(with_header(kid="\uff4b\uff45\uff59"), "malformed_kid", id="kid-full-width"),
    pytest.param(with_header(kid="https://evil.example/key"), "malformed_kid", id="kid-address"),
    pytest.param(with_header(kid="$(id)"), "malformed_kid", id="kid-shell"),
    pytest.param(with_header(kid={"$ne": ""}), "malformed", id="kid-query"),
    pytest.param(with_header(kid=True), "malformed", id="kid-boolean"),
    *[
        pytest.param(with_header(alg=alg), "algorithm", id=f"alg-{number}")
        for number, alg in enumerate(
            ["None", "NONE", "nOnE", "EdDSA ", "EdDSA\0", "\uff25dDSA", "Ed448", "", {}, True]
        )
    ],
    *[
        pytest.param(with_header(alg=alg), "algorithm", id=f"alg-{alg}")
        for alg in ("HS384", "HS512", "RS256", "PS512", "ES256K", "dir", "A256GCMKW")
    ],
    pytest.param(
        with_header_text('{"alg": "EdDSA", "kid": "%(kid)s", "alg": "HS256"}'), "algorithm", id="alg-twice"
    ),
    pytest.param(
        with_header_text('{"alg": "EdDSA", "kid": "%(kid)s", "ALG": "none", "Kid": 7}'),
        None,
        id="alg-in-capitals-is-nothing",
    ),
    pytest.param(
        with_header_text('{"alg": "EdDSA", "kid": "%(kid)s", "typ": "JWT", "typ": "at+jwt"}'),
        "type",
        id="typ-twice",
    ),
    pytest.param(
        with_header_text('{"alg": "EdDSA", "kid": "%(kid)s",}'), "malformed", id="header-with-trailing-comma"
    ),
    pytest.param(
        with_header_text('{"alg": "EdDSA", "kid": "%(kid)s"} '), None, id="header-with-trailing-space-is-good"
    ),
    pytest.param(
        with_header_text('{"alg": "EdDSA", "kid": "%(kid)s"}x'), "malformed", id="header-with-trailing-text"
    ),
    pytest.param(with_header(crit="exp"), "malformed", id="crit-text"),
    pytest.param(with_header(crit=None), "malformed", id="crit-null"),
    pytest.param(with_header(crit=["b64", "b64"], b64=True), "critical_header", id="crit-twice"),
    pytest.param(with_header(crit=[7]), "malformed", id="crit-number"),
    pytest.param(with_header(crit=["alg"]), "malformed", id="crit-of-a-member-that-is-there"),
    pytest.param(with_header(b64=None), "critical_header", id="b64-null"),
    pytest.param(with_header(b64="false"), "critical_header", id="b64-text"),
]

# --- Token types --------------------------------------------------------------------------------

KINDS = [
    *[
        pytest.param(with_header(typ=typ), "type", id=f"typ-{number}")
        for number, typ in enumerate(
            ["jwt", "Jwt", "application/jwt", "JWE", "JOSE", "JWT\0", "", 7, True, {}]
        )
    ],
    *[
        pytest.param(with_header(typ=typ), "type", id=f"typ-{typ}")
        for typ in (
            "AT+JWT",
            "application/at+jwt",
            "dpop+jwt",
            "secevent+jwt",
            "token-introspection+jwt",
            "id_token",
        )
    ],
    pytest.param(with_claims(scope=""), "other_token_kind", id="scope-empty"),
    pytest.param(with_claims(azp=None, client_id=None), "other_token_kind", id="azp-null"),
    pytest.param(with_claims(aud="a-client-of-oauth"), "audience", id="id-token"),
    pytest.param(
        with_claims(
            aud=[BETTER_AUTH_URL, f"{BETTER_AUTH_URL}/api/auth/oauth2/userinfo"], scope="openid", azp="client"
        ),
        "other_token_kind",
        id="access-token-whose-audience-has-ours",
    ),
]

# --- Signatures ------------------------------------------------------------------------------------

L = 2**252 + 27742317777372353535851937790883648493  # the order of Ed25519's base point, RFC 8032 §5.1
IDENTITY = bytes([1]) + bytes(31)  # a point of small order


def eddsa(change: Callable[[bytes, int], bytes]) -> Forge:
    """Make another signature from R and S of a good one."""

    def changed(signature: bytes) -> bytes:
        return change(signature[:32], int.from_bytes(signature[32:], "little"))

    return lambda signer: with_signature(signer.token(), changed)


def ecdsa(change: Callable[[int, int], tuple[int, int]]) -> Forge:
    """Make another signature from r and s of a good one."""

    def changed(signature: bytes) -> bytes:
        r, s = (int.from_bytes(half) for half in (signature[:32], signature[32:]))
        return b"".join(each.to_bytes(32) for each in change(r, s))

    return lambda _: with_signature(Signer.in_jwks_table("ES256").token(), changed)


def small(number: int) -> bytes:
    return number.to_bytes(32, "little")


def ecdsa_of_another_hash(_: Signer) -> str:
    signer = Signer.in_jwks_table("ES256")
    signed = signer.token().rpartition(".")[0]
    r, s = decode_dss_signature(signer.private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA512())))
    return f"{signed}.{part(r.to_bytes(32) + s.to_bytes(32))}"


def rsa(change: Callable[[bytes, Any], bytes]) -> Forge:
    """Make a signature from the good signature and the key."""

    def forge(_: Signer) -> str:
        signer = Signer.in_jwks_table("RS256")
        start, signature = signer.token().rpartition(".")[::2]
        return f"{start}.{part(change(base64url_decode(signature), signer.private_key))}"

    return forge


def with_sha1(_: Signer) -> str:
    signer = Signer.in_jwks_table("RS256")
    signed = signer.token().rpartition(".")[0]
    signature = signer.private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA1())
    return f"{signed}.{part(signature)}"


def with_a_key_of_the_same_bytes(signer: Signer) -> str:
    """A token signed with one listed key, with the kid of another key of another type."""
    other = Signer.in_jwks_table("ES256")
    return Signer(signer.kid, "ES256", other.private_key).raw(header=signer.header())


SIGNATURES = [
    pytest.param(eddsa(lambda r, s: r + small(s + L)), "signature", id="eddsa-s-plus-l"),
    pytest.param(eddsa(lambda r, s: r + small(L - s)), "signature", id="eddsa-minus-s"),
    pytest.param(eddsa(lambda r, s: r + small(0)), "signature", id="eddsa-s-zero"),
    pytest.param(eddsa(lambda r, s: r + small(L)), "signature", id="eddsa-s-is-l"),
    pytest.param(eddsa(lambda r, s: bytes(32) + small(s)), "signature", id="eddsa-r-zero"),
    pytest.param(eddsa(lambda r, s: bytes(64)), "signature", id="eddsa-all-zero"),
    pytest.param(eddsa(lambda r, s: b"\xff" * 64), "signature", id="eddsa-all-ones"),
    pytest.param(eddsa(lambda r, s: IDENTITY + small(0)), "signature", id="eddsa-small-order"),
    pytest.param(eddsa(lambda r, s: small(2**255 - 18) + small(0)), "signature", id="eddsa-r-not-canonical"),
    pytest.param(
        eddsa(lambda r, s: r[:31] + bytes([r[31] ^ 0x80]) + small(s)), "signature", id="eddsa-r-other-sign"
    ),
    pytest.param(eddsa(lambda r, s: small(s) + r), "signature", id="eddsa-swapped"),
    pytest.param(ecdsa(lambda r, s: (0, s)), "signature", id="ecdsa-r-zero"),
    pytest.param(ecdsa(lambda r, s: (r, 0)), "signature", id="ecdsa-s-zero"),
    pytest.param(ecdsa(lambda r, s: (P256_ORDER, P256_ORDER)), "signature", id="ecdsa-the-order-twice"),
    pytest.param(ecdsa(lambda r, s: (P256_ORDER, s)), "signature", id="ecdsa-r-is-the-order"),
    pytest.param(ecdsa(lambda r, s: (1, 1)), "signature", id="ecdsa-one-and-one"),
    pytest.param(ecdsa(lambda r, s: (s, r)), "signature", id="ecdsa-swapped"),
    pytest.param(ecdsa(lambda r, s: (2**256 - 1, 2**256 - 1)), "signature", id="ecdsa-all-ones"),
    pytest.param(ecdsa_of_another_hash, "signature", id="ecdsa-of-another-hash"),
    pytest.param(rsa(lambda s, key: bytes(len(s))), "signature", id="rsa-zero"),
    pytest.param(rsa(lambda s, key: (1).to_bytes(len(s))), "signature", id="rsa-one"),
    pytest.param(rsa(lambda s, key: b"\0" + s), "signature", id="rsa-zero-before-it"),
    pytest.param(rsa(lambda s, key: s[:-1]), "signature", id="rsa-cut-short"),
    pytest.param(
        rsa(lambda s, key: (int.from_bytes(s) + key.public_key().public_numbers().n).to_bytes(len(s) + 1)),
        "signature",
        id="rsa-plus-the-modulus",
    ),
    pytest.param(with_sha1, "signature", id="rsa-with-sha1"),
    pytest.param(with_a_key_of_the_same_bytes, "signature", id="of-another-kind-of-key"),
]

# --- Claims ----------------------------------------------------------------------------------------


def with_claim_text(name: str, number: str) -> Forge:
    """A token with this claim as JSON text and a good signature."""

    def forge(signer: Signer) -> str:
        text = json.dumps(signer.claims() | {name: "HERE"})
        return signer.raw(text.replace('"HERE"', number).encode())

    return forge


def twice(name: str, first: Any, last: Any) -> Forge:
    """The last one counts, for all our code."""

    def forge(signer: Signer) -> str:
        text = json.dumps({key: value for key, value in signer.claims().items() if key != name})
        return signer.raw(
            f'{text[:-1]}, "{name}": {json.dumps(first)}, "{name}": {json.dumps(last)}}}'.encode()
        )

    return forge


HOST = BETTER_AUTH_URL.removeprefix("http://")
LOOK_ALIKES = {
    "trailing-dot": f"{BETTER_AUTH_URL}.",
    "trailing-space": f"{BETTER_AUTH_URL} ",
    "trailing-nul": f"{BETTER_AUTH_URL}\0",
    "trailing-newline": f"{BETTER_AUTH_URL}\n",
    "query": f"{BETTER_AUTH_URL}?",
    "fragment": f"{BETTER_AUTH_URL}#",
    "userinfo": f"http://evil@{HOST}",
    "as-userinfo": f"{BETTER_AUTH_URL}@evil.example",
    "as-a-prefix": f"{BETTER_AUTH_URL}.evil.example",
    "longer-port": f"{BETTER_AUTH_URL}0",
    "shorter": BETTER_AUTH_URL[:-1],
    "without-a-port": BETTER_AUTH_URL.rpartition(":")[0],
    "other-scheme": f"https://{HOST}",
    "without-a-scheme": HOST,
    "scheme-in-capitals": f"HTTP://{HOST}",
    "by-number": BETTER_AUTH_URL.replace("localhost", "127.0.0.1"),
    "homoglyph": BETTER_AUTH_URL.replace("o", "\u043e", 1),  # Cyrillic
    "zero-width": f"{BETTER_AUTH_URL}\u200b",
    "full-width": BETTER_AUTH_URL.replace("l", "\uff4c"),
}

CLAIMS = [
    pytest.param(with_claim_text("exp", "1e400"), "malformed", id="exp-1e400"),
    pytest.param(with_claim_text("exp", "-1e400"), "malformed", id="exp-minus-1e400"),
    pytest.param(with_claim_text("exp", "-0"), "expired", id="exp-minus-zero"),
    pytest.param(with_claim_text("exp", "-0.0"), "expired", id="exp-minus-zero-as-a-float"),
    pytest.param(with_claim_text("exp", "1e-400"), "expired", id="exp-1e-400"),
    pytest.param(with_claim_text("exp", "1e15"), "malformed_date", id="exp-1e15"),
    pytest.param(with_claim_text("exp", "253402300799"), "lifetime", id="exp-the-last-second-of-9999"),
    pytest.param(with_claim_text("exp", "253402300800"), "malformed_date", id="exp-the-year-10000"),
    pytest.param(with_claim_text("exp", "9223372036854775807"), "malformed_date", id="exp-64-bits"),
    pytest.param(with_claim_text("exp", "9223372036854775808"), "malformed_date", id="exp-over-64-bits"),
    pytest.param(with_claim_text("exp", "false"), "expired", id="exp-false"),
    pytest.param(with_claim_text("exp", '"9999999999"'), "malformed_date", id="exp-digits"),
    pytest.param(with_claim_text("exp", '"Infinity"'), "malformed", id="exp-infinity-as-text"),
    pytest.param(with_claim_text("exp", '""'), "malformed", id="exp-empty"),
    pytest.param(with_claim_text("exp", "{}"), "malformed", id="exp-object"),
    pytest.param(
        with_claim_text("exp", '"' + "9" * 5000 + '"'), "malformed", id="exp-of-5000-digits-as-text"
    ),
    pytest.param(with_claim_text("exp", "0x7fffffff"), "malformed", id="exp-in-hex"),
    pytest.param(with_claim_text("exp", "١٢"), "malformed", id="exp-arabic-digits"),
    pytest.param(with_claim_text("iat", "1e400"), "malformed", id="iat-1e400"),
    pytest.param(with_claim_text("iat", "-0"), "lifetime", id="iat-zero"),
    pytest.param(with_claim_text("iat", "0.1"), "lifetime", id="iat-a-fraction"),
    pytest.param(with_claim_text("iat", "-62135596801"), "malformed_date", id="iat-before-the-year-1"),
    pytest.param(with_claim_text("iat", "-62135596800"), "lifetime", id="iat-the-year-1"),
    pytest.param(with_claim_text("iat", "-9223372036854775809"), "malformed_date", id="iat-under-64-bits"),
    pytest.param(with_claim_text("iat", "9223372036854775808"), "not_yet_valid", id="iat-over-64-bits"),
    pytest.param(with_claim_text("iat", "[]"), "malformed", id="iat-list"),
    pytest.param(with_claim_text("iat", "false"), "malformed_date", id="iat-false"),
    pytest.param(with_claim_text("nbf", "1e400"), "malformed", id="nbf-1e400"),
    pytest.param(with_claim_text("nbf", "NaN"), "malformed", id="nbf-nan"),
    pytest.param(with_claim_text("nbf", "253402300800"), "not_yet_valid", id="nbf-the-year-10000"),
    pytest.param(with_claim_text("nbf", '"' + "9" * 30 + '"'), "not_yet_valid", id="nbf-digits"),
    pytest.param(with_claim_text("nbf", "[1]"), "malformed", id="nbf-list"),
    pytest.param(with_claim_text("nbf", "{}"), "malformed", id="nbf-object"),
    pytest.param(twice("exp", int(time.time()) + 900, 1), "expired", id="exp-twice"),
    pytest.param(twice("iss", BETTER_AUTH_URL, "https://evil.example"), "issuer", id="iss-twice"),
    pytest.param(twice("aud", BETTER_AUTH_URL, "other"), "audience", id="aud-twice"),
    pytest.param(twice("sub", "user-id", "' OR 1=1"), "subject", id="sub-twice"),
    pytest.param(twice("email", "ada@example.com", None), "missing_email", id="email-twice"),
    *[pytest.param(with_claims(iss=text), "issuer", id=f"iss-{name}") for name, text in LOOK_ALIKES.items()],
    *[
        pytest.param(with_claims(aud=text), "audience", id=f"aud-{name}")
        for name, text in LOOK_ALIKES.items()
    ],
    pytest.param(with_claims(iss=True), "issuer", id="iss-boolean"),
    pytest.param(with_claims(iss={"": BETTER_AUTH_URL}), "issuer", id="iss-object"),
    pytest.param(with_claims(iss=0), "issuer", id="iss-zero"),
    pytest.param(with_claims(aud=[[BETTER_AUTH_URL]]), "audience", id="aud-list-in-a-list"),
    pytest.param(with_claims(aud=[None, BETTER_AUTH_URL]), "audience", id="aud-list-with-null"),
    pytest.param(
        with_claims(aud=[f"{BETTER_AUTH_URL}/", BETTER_AUTH_URL.upper()]), "audience", id="aud-of-look-alikes"
    ),
    pytest.param(with_claims(aud=f"{BETTER_AUTH_URL},other"), "audience", id="aud-with-a-comma"),
    pytest.param(with_claims(aud="*"), "audience", id="aud-anybody"),
    pytest.param(with_claims(aud=True), "audience", id="aud-boolean"),
    pytest.param(with_claims(sub="../user-id"), "subject", id="sub-path"),
    pytest.param(with_claims(sub="user-id "), "subject", id="sub-space"),
    pytest.param(with_claims(sub="\uff55ser-id"), "subject", id="sub-full-width"),
    pytest.param(with_claims(sub=True), "subject", id="sub-boolean"),
    pytest.param(with_claims(sub={"id": "user-id"}), "subject", id="sub-object"),
    pytest.param(with_claims(email=True), "email", id="email-boolean"),
    pytest.param(with_claims(email={"value": "ada@example.com"}), "email", id="email-object"),
    pytest.param(with_claims(email="ada@example.com\u200b"), "email", id="email-zero-width"),
    pytest.param(with_claims(email="ada@example.com\u2028"), "email", id="email-line-separator"),
    pytest.param(with_claims(email="\x7fada@example.com"), "email", id="email-delete"),
    pytest.param(with_claims(sid="../session"), "sid", id="sid-path"),
    pytest.param(with_claims(sid=0), "sid", id="sid-zero"),
    pytest.param(with_claims(sid=" "), "sid", id="sid-space"),
    pytest.param(with_claims(sid="\u200b"), "sid", id="sid-zero-width"),
    pytest.param(with_claims(jti={}), "malformed", id="jti-object"),
]


@pytest.mark.parametrize(("forge", "reason"), [*STRUCTURE, *KEYS, *KINDS, *SIGNATURES, *CLAIMS])
def test_a_forged_token_is_refused_for_its_reason(signer: Signer, forge: Forge, reason: str | None) -> None:
    token = forge(signer)

    if reason is None:
        assert tokens.verify(token).key_id == signer.kid
    else:
        assert reason_for(token) == reason


def test_the_second_form_of_an_ecdsa_signature_is_good_too(signer: Signer) -> None:
    """Anybody can make (r, n - s) from (r, s). It is harmless: no code here assumes that a token's text is
    unique."""
    twin = ecdsa(lambda r, s: (r, P256_ORDER - s))(signer)

    assert tokens.verify(twin).subject == "user-id"


def test_a_token_expires_exactly_at_the_end_of_the_leeway(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = signer.token()
    end = tokens.verify(token).expires_at + timedelta(seconds=10)

    class EndOfLeeway(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return end

    monkeypatch.setattr(signed, "datetime", EndOfLeeway)

    assert reason_for(token) == "expired"


def test_a_key_may_sign_until_its_expiry_plus_the_leeway(signer: Signer) -> None:
    now = int(time.time())
    retired = Signer.in_jwks_table(expiresAt=datetime.fromtimestamp(now - 60, UTC))

    assert tokens.verify(retired.token(iat=now - 50)).key_id == retired.kid
    assert reason_for(retired.token(iat=now - 49)) == "key_retired"


@pytest.mark.parametrize("changes", [{"kid": "unknown"}, {"alg": "ES256"}])
def test_a_refusal_names_the_key_that_the_token_names(signer: Signer, changes: dict[str, str]) -> None:
    with pytest.raises(TokenRefused) as refused:
        tokens.verify(with_header(**changes)(signer))

    assert refused.value.key_id == changes.get("kid", signer.kid)


def test_a_token_may_have_8192_characters(signer: Signer) -> None:
    """docs/security.md documents the limit. A proxy in front of us must allow as much."""
    assert reason_for("x" * 8193) == "too_long"
    assert reason_for("x" * 8192) == "malformed"


# --- Tokens for other purposes
# -------------------------------------------------------------------------------

Claim = Callable[[Person, Person], dict[str, Any]]
FOREIGN: list[Any] = [
    (lambda me, you: {"sub": you.user_id}, 401, "subject_mismatch", "their-subject"),
    (lambda me, you: {"email": you.email}, 401, "subject_mismatch", "their-address"),
    (
        lambda me, you: {"email": you.email, "sid": you.session_id},
        401,
        "subject_mismatch",
        "all-but-the-subject",
    ),
    (lambda me, you: {"sub": me.user_id.swapcase()}, 401, "subject_mismatch", "subject-in-other-case"),
    (lambda me, you: {"sub": me.user_id[:-1]}, 401, "subject_mismatch", "beginning-of-the-subject"),
    (lambda me, you: {"sid": you.session_id}, 401, "session_ended", "their-session"),
    (lambda me, you: {"sid": me.session_id.swapcase()}, 401, "session_ended", "session-in-other-case"),
    (lambda me, you: {"sid": me.session_token}, 401, "session_ended", "token-of-the-session"),
    (lambda me, you: {"sid": me.user_id}, 401, "session_ended", "user-for-session"),
    (lambda me, you: {"email": f"{me.email}."}, 401, "address_changed", "address-with-a-dot"),
    (lambda me, you: {"email": me.email.replace("@", "+x@")}, 401, "address_changed", "address-with-a-tag"),
    (lambda me, you: {"email": f'"{me.email}"'}, 401, "address_changed", "address-in-quotes"),
    (lambda me, you: {"email": me.email.replace("e", "\u0435")}, 401, "address_changed", "homoglyph"),
    (lambda me, you: {"email": me.email.replace("@", "\uff20")}, 401, "address_changed", "full-width-at"),
    (lambda me, you: {"email": f"{me.email}, {you.email}"}, 401, "address_changed", "two-addresses"),
    (lambda me, you: {"email": "%"}, 401, "address_changed", "wildcard"),
    (lambda me, you: {"email": "' OR 1=1 --"}, 401, "address_changed", "sql"),
    (lambda me, you: {"sub": "ghost", "email": "ghost@example.com"}, 404, "user_not_found", "nobody"),
]


@pytest.mark.parametrize(
    ("claim", "status", "reason"), [row[:3] for row in FOREIGN], ids=[row[3] for row in FOREIGN]
)
def test_tokens_for_other_purposes_are_refused(
    client: Client,
    person: Person,
    other_person: Person,
    signer: Signer,
    audit: Callable[[], list[dict[str, Any]]],
    claim: Claim,
    status: int,
    reason: str,
) -> None:
    mine = {"sub": person.user_id, "email": person.email, "sid": person.session_id}
    assert post(client, f"Bearer {signer.token(**mine)}").status_code == 200

    response = post(client, f"Bearer {signer.token(**mine | claim(person, other_person))}")

    assert (response.status_code, audit()[-1]["reason"]) == (status, reason)


# --- Headers ---------------------------------------------------------------------------------------

HEADERS: dict[str, tuple[Callable[[str], str], int, str]] = {
    "two-of-them": (lambda token: f"Bearer {token},Bearer {token}", 400, "two_credentials"),
    "the-good-one-last": (lambda token: f"Bearer x.y.z, Bearer {token}", 400, "two_credentials"),
    "the-good-one-first": (lambda token: f"Bearer {token}, bearer x", 400, "two_credentials"),
    "another-scheme-first": (lambda token: f"Basic YTpi, Bearer {token}", 401, "no_credentials"),
    "another-scheme-last": (lambda token: f"Bearer {token}, Basic YTpi", 401, "malformed"),
    "an-empty-one-last": (lambda token: f"Bearer {token},", 401, "malformed"),
    "two-spaces": (lambda token: f"Bearer  {token}", 401, "malformed"),
    "a-tab": (lambda token: f"Bearer\t{token}", 401, "no_credentials"),
    "no-space": (lambda token: f"Bearer{token}", 401, "no_credentials"),
    "a-colon": (lambda token: f"Bearer: {token}", 401, "no_credentials"),
    "an-equals-sign": (lambda token: f"Bearer token={token}", 401, "malformed"),
    "quoted": (lambda token: f'Bearer "{token}"', 401, "malformed"),
    "in-angle-brackets": (lambda token: f"Bearer <{token}>", 401, "malformed"),
    "the-scheme-twice": (lambda token: f"Bearer Bearer {token}", 401, "malformed"),
    "the-token-alone": (lambda token: token, 401, "no_credentials"),
    "dpop": (lambda token: f"DPoP {token}", 401, "no_credentials"),
    "jwt": (lambda token: f"JWT {token}", 401, "no_credentials"),
    "latin-1-before-it": (lambda token: f"\xa0Bearer {token}", 401, "no_credentials"),
    "latin-1-behind-it": (lambda token: f"Bearer {token}\xff", 401, "malformed"),
    "utf-8-as-latin-1": (lambda token: "Bearer " + "é💍".encode().decode("latin-1"), 401, "malformed"),
    "nothing-but-the-scheme": (lambda token: "Bearer", 401, "malformed"),
    "nothing-but-dots": (lambda token: "Bearer ..", 401, "malformed"),
    "a-megabyte": (lambda token: f"Bearer {'x' * 1_000_000}", 401, "malformed"),
    "a-megabyte-of-three-parts": (lambda token: f"Bearer {'x' * 1_000_000}.y.z", 401, "too_long"),
    "a-thousand-schemes": (lambda token: ", ".join(["Bearer x"] * 1000), 400, "two_credentials"),
}


@pytest.mark.parametrize(("write", "status", "reason"), HEADERS.values(), ids=HEADERS)
def test_a_good_token_in_a_bad_header_is_refused(
    client: Client,
    person: Person,
    audit: Callable[[], list[dict[str, Any]]],
    write: Callable[[str], str],
    status: int,
    reason: str,
) -> None:
    response = post(client, write(person.token()))

    assert response.status_code == status
    assert [record["reason"] for record in audit()] == [reason]
    if reason == "malformed":
        assert response.json() == body_of(BAD_TOKEN, 401)
