"""A large database: our tables, Better Auth's tables with the given number of rows, and signing keys."""

import json
import os
import secrets
import sys
from dataclasses import dataclass
from typing import Any

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from chatbackend.dev.frontend import FRONTEND, better_auth, install_packages
from chatbackend.dev.processes import TOP, StartError, run_command, say

KEYS: dict[str, Any] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),  # python-jose knows no EdDSA
}

# The database generates all rows, so that nothing is sent to it. Ids have 32 letters and digits, as in Better
# Auth. A user's id is computed from the user's number, so that sessions need no join.
FUNCTIONS = """
    CREATE FUNCTION pg_temp.id_of(seed text) RETURNS text IMMUTABLE LANGUAGE sql RETURN
        left(translate(encode(sha256(seed::bytea), 'base64'), '+/=', 'aZ'), 32);
"""
USERS = """
    INSERT INTO "user" ("id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt")
    SELECT pg_temp.id_of('user' || n), 'User ' || n, 'user' || n || '@example.com', n %% 5 > 0,
        CASE WHEN n %% 2 = 0 THEN 'https://cdn.example.com/' || n || '.png' END, moment, moment
    FROM (SELECT n, now() - random() * interval '700 days' AS moment FROM generate_series(1, %(users)s) n)
"""
# One session in three is live. It lasts for a year, so that the data stays usable.
SESSIONS = """
    INSERT INTO "session" ("id", "userId", "token", "expiresAt", "createdAt", "updatedAt", "ipAddress",
        "userAgent")
    SELECT pg_temp.id_of(gen_random_uuid()::text), pg_temp.id_of('user' || 1 + floor(random() * %(users)s)),
        pg_temp.id_of(gen_random_uuid()::text),
        now() + CASE WHEN n %% 3 = 0 THEN interval '1 year' ELSE random() * interval '-60 days' END,
        now() - interval '60 days', now() - interval '60 days', '203.0.113.7',
        'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36'
    FROM generate_series(1, %(sessions)s) n
"""

# Chosen by number, because a random order would scan a million rows. A user has several sessions: take the
# newest.
PEOPLE = """
    SELECT u."id", u."name", u."email", u."emailVerified", u."image", u."createdAt", u."updatedAt",
        (SELECT "token" FROM "session" WHERE "userId" = u."id" ORDER BY "expiresAt" DESC LIMIT 1)
    FROM "user" u WHERE u."id" = ANY(SELECT pg_temp.id_of('user' || n) FROM unnest(%(numbers)s::int[]) n)
        AND {} (SELECT FROM "session" s WHERE s."userId" = u."id" AND s."expiresAt" > now()) LIMIT %(count)s
"""

# Three threads for each person, as in the store of every peer, so that a list has content.
THREADS = """
    INSERT INTO support_thread (user_id, thread_id, title, created_at, data)
    SELECT id, 'thr_' || md5(id || n), 'Conversation ' || n, now(), jsonb_build_object(
        'id', 'thr_' || md5(id || n), 'title', 'Conversation ' || n, 'status', '{"type": "active"}'::jsonb,
        'created_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
    FROM unnest(%s::text[]) id, generate_series(1, 3) n
"""


@dataclass(frozen=True, slots=True)
class Person:
    """A row of Better Auth's "user" table, and the token of the user's newest session."""

    id: str
    name: str
    email: str
    email_verified: bool
    image: str | None
    created_at: Any
    updated_at: Any
    session_token: str


@dataclass(frozen=True, slots=True)
class Population:
    """``people``: users with a live session. ``signed_out``: one without. ``keys``: kid and private key."""

    people: list[Person]
    signed_out: Person
    keys: dict[str, tuple[str, jwt.PyJWK]]

    @property
    def jwks(self) -> bytes:
        """The response of Better Auth's /api/auth/jwks."""
        keys = [{**_public(key), "kid": kid, "alg": alg} for alg, (kid, key) in self.keys.items()]
        return json.dumps({"keys": keys}).encode()


def build(url: str, users: int, sessions: int) -> None:
    """Fill the database at ``url`` unless it is filled. ``StartError`` if it contains other data."""
    existing = _size(url)
    if existing == (users, sessions):
        return
    if existing:
        raise StartError("That database contains {:,} users and {:,} sessions.".format(*existing))
    say(f"Building {users:,} users and {sessions:,} sessions …")
    install_packages(FRONTEND)
    with better_auth({"DATABASE_URL": url, "BETTER_AUTH_SECRET": secrets.token_urlsafe(32)}):
        pass  # its tables exist when it answers
    env = {"ENV_FILE": os.devnull, "DATABASE_URL": url, "SECRET_KEY": secrets.token_urlsafe(50)}
    run_command([sys.executable, str(TOP / "manage.py"), "migrate", "--skip-checks"], env=env)
    size = {"users": users, "sessions": sessions}
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # do not check foreign keys
        connection.execute("SET LOCAL work_mem = '256MB'")
        connection.execute(FUNCTIONS)
        connection.execute(USERS, size)
        connection.execute(SESSIONS, size)
        for algorithm, generate in KEYS.items():
            key = jwt.get_algorithm_by_name(algorithm).to_jwk(generate(), as_dict=True)
            connection.execute(
                'INSERT INTO "jwks" ("id", "publicKey", "privateKey", "createdAt", "alg", "crv") '
                "VALUES (%s, %s, %s, now(), %s, %s)",
                [
                    secrets.token_hex(16),
                    json.dumps(_public_members(key)),
                    json.dumps(key),
                    algorithm,
                    key["crv"],
                ],
            )
        connection.execute("CREATE TABLE benchmark AS SELECT %(users)s users, %(sessions)s sessions", size)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def population(url: str, count: int) -> Population:
    """Choose up to ``count`` people at random."""
    with psycopg.connect(url) as connection:
        connection.execute(FUNCTIONS)
        total = connection.execute("SELECT users FROM benchmark").fetchone()
        assert total
        numbers = [1 + secrets.randbelow(total[0]) for _ in range(4 * count)]
        chosen = {"numbers": numbers, "count": count}
        people = [Person(*row) for row in connection.execute(PEOPLE.format("EXISTS"), chosen)]
        signed_out = connection.execute(PEOPLE.format("NOT EXISTS"), chosen).fetchone()
        assert people, "the database is too small"
        assert signed_out, "the database is too small"
        rows = connection.execute('SELECT "alg", "id", "privateKey" FROM "jwks"').fetchall()
    keys = {alg: (kid, jwt.PyJWK(json.loads(private), alg)) for alg, kid, private in rows}
    return Population(people, Person(*signed_out), keys)


def reset_chats(url: str, population: Population) -> None:
    """Remove all threads, then create three for each of these people."""
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE support_thread CASCADE")
        connection.execute(THREADS, [[person.id for person in population.people]])


def _size(url: str) -> tuple[int, int] | None:
    with psycopg.connect(url) as connection:
        if _exists(connection, "benchmark"):
            size = connection.execute("SELECT users, sessions FROM benchmark").fetchone()
            assert size
            return int(size[0]), int(size[1])
        if _exists(connection, '"user"') and connection.execute('SELECT FROM "user" LIMIT 1').rowcount:
            raise StartError("That database contains other users. Use an empty one.")
    return None


def _exists(connection: "psycopg.Connection[Any]", table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
    return bool(row and row[0])


def _public(key: jwt.PyJWK) -> dict[str, Any]:
    return _public_members(dict(key._jwk_data))


def _public_members(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name in ("kty", "crv", "x", "y")}
