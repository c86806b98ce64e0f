"""Better Auth as teams run it, and the variables with which the backend reads it there.

What a deployment has that is not here is the default of either side.
"""

import json
from dataclasses import dataclass, field
from typing import Any

INDIA, NEW_YORK = "Asia/Kolkata", "America/New_York"  # zones of a Node process, east and west of UTC


@dataclass(frozen=True)
class Deployment:
    """``better_auth``: what tests/better_auth/server.mjs is told. ``backend``: what our server is told."""

    name: str
    better_auth: dict[str, str] = field(default_factory=dict)
    backend: dict[str, str] = field(default_factory=dict)
    sessions: str = '"session"'  # the table, quoted, and in it the column of the expiry
    expires_at: str = '"expiresAt"'
    zone: str = "UTC"  # what columns without a zone mean
    schema: str = "public"

    def __str__(self) -> str:
        return self.name

    @property
    def has_admin(self) -> bool:
        return "admin" in self.backend.get("BETTER_AUTH_PLUGINS", "")

    @property
    def is_on_sqlite(self) -> bool:
        return self.name == "SQLite"

    @property
    def has_jwt(self) -> bool:
        return self.backend.get("BETTER_AUTH_KEYS") != "secret"

    @property
    def has_sid(self) -> bool:
        return self.better_auth.get("CLAIMS") != "default"


def with_ids(kind: str) -> str:
    return json.dumps({"advanced": {"database": {"generateId": kind}}})


def with_plugins(*others: str, algorithm: str = "EdDSA", **jwks: Any) -> str:
    jwt = {"jwks": {"keyPairConfig": {"alg": algorithm}, **jwks}}
    return json.dumps({"jwt": jwt, **{name: {} for name in others}})


WITH_ADMIN = [
    Deployment(
        "Kysely",
        {"PLUGINS": with_plugins("admin", "anonymous", "organization", "two-factor", "bearer")},
        {"BETTER_AUTH_PLUGINS": "admin,anonymous,organization,two-factor"},
    ),
    Deployment(
        "Drizzle, plural tables",
        {
            "ADAPTER": "drizzle",
            "PLURAL": "1",
            "OPTIONS": with_ids("uuid"),
            "PLUGINS": with_plugins("admin", algorithm="PS256"),
            "TZ": INDIA,
        },
        {
            "BETTER_AUTH_NAMING": "snake",
            "BETTER_AUTH_TABLES": "user=users,session=sessions,jwks=jwkss",
            "BETTER_AUTH_PLUGINS": "admin",
        },
        sessions='"sessions"',
        expires_at='"expires_at"',
    ),
    Deployment(
        "SQLite",
        {"PLUGINS": with_plugins("admin"), "TZ": INDIA},
        {"BETTER_AUTH_PLUGINS": "admin", "BETTER_AUTH_DATABASE_URL": "sqlite:////srv/auth.db"},
    ),
]
DEPLOYMENTS = [
    # Those first: pytest keeps what is running for both tests only under one and the same index.
    *WITH_ADMIN,
    Deployment(
        "Kysely, ids of numbers, keys of an address",
        {
            "OPTIONS": with_ids("serial"),
            "PLUGINS": with_plugins(algorithm="ES512", jwksPath="/.well-known/jwks.json"),
        },
        {
            "BETTER_AUTH_KEYS": "jwks",
            "BETTER_AUTH_JWKS_URL": "https://auth.example.com/api/auth/.well-known/jwks.json",
        },
    ),
    Deployment(
        "Kysely, ids of UUIDs, Better Auth's own claims", {"OPTIONS": with_ids("uuid"), "CLAIMS": "default"}
    ),
    Deployment(
        "Kysely, names of its own in another schema",
        {
            "BETTER_AUTH_TABLES": "user=people,session=sign_ins,jwks=signing_keys",
            "BETTER_AUTH_COLUMNS": "user.emailVerified=verified,session.expiresAt=valid_until,"
            "session.userId=owner,jwks.publicKey=public",
        },
        {
            "BETTER_AUTH_TABLES": "user=auth.people,session=auth.sign_ins,jwks=auth.signing_keys",
            "BETTER_AUTH_COLUMNS": "user.emailVerified=verified,session.expiresAt=valid_until,"
            "session.userId=owner,jwks.publicKey=public",
        },
        sessions='"auth"."sign_ins"',
        expires_at='"valid_until"',
        schema="auth",
    ),
    Deployment(
        "Drizzle",
        {
            "ADAPTER": "drizzle",
            "OPTIONS": with_ids("serial"),
            "PLUGINS": with_plugins(algorithm="ES256"),
            "TZ": INDIA,
        },
        {"BETTER_AUTH_NAMING": "snake"},
        expires_at='"expires_at"',
    ),
    Deployment("Prisma", {"ADAPTER": "prisma", "PLUGINS": with_plugins(algorithm="RS256"), "TZ": NEW_YORK}),
    Deployment(
        "The oldest, in India",
        {"BETTER_AUTH_VERSION": "oldest", "TZ": INDIA},
        {"BETTER_AUTH_COLUMNS": "jwks.alg=,jwks.expiresAt=", "BETTER_AUTH_TIME_ZONE": INDIA},
        zone=INDIA,
    ),
    Deployment("Before 1.7", {"BETTER_AUTH_VERSION": "1.4"}, {"BETTER_AUTH_COLUMNS": "jwks.alg="}),
    Deployment(
        "Without the jwt() plugin",
        {"PLUGINS": json.dumps({"bearer": {}})},
        {"BETTER_AUTH_KEYS": "secret", "BETTER_AUTH_SECRET": "a-secret-of-the-tests-and-of-nothing-else"},
    ),
]
