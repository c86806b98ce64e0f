"""Credentials as Better Auth issues them, and more_bad that every server should refuse."""

import base64
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import jwt

from benchmarks.data import Person, Population

LIFETIME_SECONDS = 900  # Better Auth's default
ALGORITHMS = {"eddsa": "EdDSA", "es256": "ES256"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Header lines. ``good``: one for each person. ``bad``: by what is wrong with them."""

    good: list[str]
    bad: dict[str, str]


@dataclass(frozen=True, slots=True)
class Issuer:
    """Issues credentials like a Better Auth at ``origin``."""

    origin: str
    secret: str
    population: Population

    def credentials(self, kind: str) -> Credentials:
        """``kind``: ``eddsa``, ``es256``, ``cookie``, or ``none``. Tokens are good for 15 minutes."""
        people, signed_out = self.population.people, self.population.signed_out
        if kind == "none":
            return Credentials(["Accept: */*"], {})
        if kind == "cookie":
            good = [self._cookie(person.session_token) for person in people]
            more_bad = {
                "an expired session": self._cookie(signed_out.session_token or "x" * 32),
                "an unknown session": self._cookie("x" * 32),
            }
        else:
            algorithm = ALGORITHMS[kind]
            good = [self._bearer(algorithm, person) for person in people]
            more_bad = {
                "an expired token": self._bearer(algorithm, people[0], age=LIFETIME_SECONDS + 60),
                "users without a live session": self._bearer(algorithm, signed_out),
                "unknown users": self._bearer(algorithm, UNKNOWN),
            }
        return Credentials(
            good, {"a broken signature": _tampered(good[0]), "nothing": "Accept: */*"} | more_bad
        )

    def _bearer(self, algorithm: str, person: Person, age: int = 0) -> str:
        """A token with the default claims of Better Auth's jwt() plugin: the whole user, and no ``sid``."""
        kid, key = self.population.keys[algorithm]
        now = int(time.time()) - age
        claims: dict[str, Any] = {
            "iat": now,
            "name": person.name,
            "email": person.email,
            "emailVerified": person.email_verified,
            "image": person.image,
            "createdAt": _iso(person.created_at),
            "updatedAt": _iso(person.updated_at),
            "id": person.id,
            "sub": person.id,
            "exp": now + LIFETIME_SECONDS,
            "iss": self.origin,
            "aud": self.origin,
        }
        # Better Auth writes no typ. PyJWT leaves out a header that is None.
        token = jwt.encode(claims, key.key, algorithm, headers={"kid": kid, "typ": None})
        return f"Authorization: Bearer {token}"

    def _cookie(self, token: str) -> str:
        signature = base64.b64encode(hmac.digest(self.secret.encode(), token.encode(), "sha256")).decode()
        return f"Cookie: better-auth.session_token={quote(f'{token}.{signature}', safe='')}"


UNKNOWN = Person(
    "x" * 32,
    "Unknown",
    "unknown@example.com",
    email_verified=True,
    image=None,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    session_token="",
)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _tampered(line: str) -> str:
    place = len(line) - 20
    return f"{line[:place]}{'A' if line[place] != 'A' else 'B'}{line[place + 1 :]}"
