"""Tokens of our own making, good and bad."""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.db import connection, transaction

from tests.environment import BETTER_AUTH_URL

PRIVATE_KEYS = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
}


@dataclass
class Signer:
    kid: str
    algorithm: str
    private_key: Any

    @classmethod
    def in_jwks_table(cls, algorithm: str = "EdDSA", **columns: Any) -> Self:
        """A new key, listed by Better Auth's table as Better Auth lists its own.

        Created long ago, so that Better Auth never takes it for the one to sign with.
        """
        signer = cls.unknown(algorithm)
        row = {"alg": algorithm, "expiresAt": None, "publicKey": json.dumps(signer.public_jwk())} | columns
        with connection.cursor() as cursor:
            cursor.execute(
                'INSERT INTO "jwks" ("id", "publicKey", "privateKey", "createdAt", "expiresAt", "alg") '
                "VALUES (%s, %s, 'not ours to read', 'epoch', %s, %s)",
                [signer.kid, row["publicKey"], row["expiresAt"], row["alg"]],
            )
        return signer

    @classmethod
    def unknown(cls, algorithm: str = "EdDSA") -> Self:
        """A key that nobody knows."""
        return cls(uuid.uuid4().hex, algorithm, PRIVATE_KEYS[algorithm]())

    def public_jwk(self) -> dict[str, Any]:
        """Without kid and alg, as in Better Auth's column."""
        members = jwt.get_algorithm_by_name(self.algorithm).to_jwk(
            self.private_key.public_key(), as_dict=True
        )
        return {name: value for name, value in members.items() if name not in ("key_ops", "use")}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What Better Auth signs for somebody. ``None`` leaves a claim out."""
        now = int(time.time())
        standard = {
            "iat": now,
            "email": "ada@example.com",
            "emailVerified": False,
            "sub": "user-id",
            "exp": now + 900,
            "iss": BETTER_AUTH_URL,
            "aud": BETTER_AUTH_URL,
        }
        return {name: value for name, value in (standard | changes).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        # typ: Better Auth writes none, and PyJWT leaves out what is None.
        return self.sign(self.claims(**changes), header)

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        members = {"typ": None, "kid": self.kid} | (header or {})
        return jwt.encode(claims, self.private_key, self.algorithm, headers=members)

    def header(self, **changes: Any) -> dict[str, Any]:
        return {"alg": self.algorithm, "kid": self.kid} | changes

    def raw(self, claims: Any = None, header: Any = None) -> str:
        """A good signature over whatever these are: bytes as they are, anything else as JSON."""
        signed = f"{part(header or self.header())}.{part(claims or self.claims())}"
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(signed.encode(), self.private_key)
        return f"{signed}.{part(signature)}"


def part(content: Any) -> str:
    """One of a token's three parts."""
    written = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(written).rstrip(b"=").decode()


@contextmanager
def jwks_table_put_back() -> Iterator[None]:
    """For tests that commit: Better Auth's keys are afterwards what they were before."""
    columns = '"id", "publicKey", "privateKey", "createdAt", "expiresAt", "alg", "crv"'
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT {columns} FROM "jwks"')
        rows = cursor.fetchall()
    try:
        yield
    finally:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute('DELETE FROM "jwks"')
            cursor.executemany(f'INSERT INTO "jwks" ({columns}) VALUES (%s, %s, %s, %s, %s, %s, %s)', rows)
        connection.close()
