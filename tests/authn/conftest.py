"""Fixtures for the tests of authn alone."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tests.fixtures.accounts.people import BetterAuth, Person


@pytest.fixture
def ended_cookie(person: Person) -> str:
    """The cookie of a second session of ``person``, which has been signed out."""
    second_browser = person.auth.sign_in(person.email)
    cookie = second_browser.cookie
    second_browser.sign_out()
    return cookie


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns this test's audit records, as dicts with the fields of the JSON log."""

    def records() -> list[dict[str, Any]]:
        return [vars(record) for record in caplog.records if record.name == "authn.audit"]

    return records


@pytest.fixture(params=["text", "integer", "uuid"])
def ids(request: pytest.FixtureRequest, auth: BetterAuth, db: None) -> str:
    """Give Better Auth's tables ids of this type and one user with one session; return the id of both.

    The tables change in the test's transaction and are as before after its rollback.
    """
    kind, row = request.param, {"text": "a" * 32, "integer": "7", "uuid": str(uuid.uuid4())}[request.param]
    with connection.cursor() as cursor:
        for table in ("session", "account"):
            cursor.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{table}_userId_fkey"')
        for table in ("user", "session"):
            cursor.execute(f'TRUNCATE "{table}" CASCADE')
            cursor.execute(f'ALTER TABLE "{table}" ALTER COLUMN "id" TYPE {kind} USING NULL::{kind}')
        cursor.execute(f'ALTER TABLE "session" ALTER COLUMN "userId" TYPE {kind} USING NULL::{kind}')
        cursor.execute(
            'INSERT INTO "user" ("id", "name", "email", "emailVerified") '
            "VALUES (%s, 'Ada', 'ada@example.com', false)",
            [row],
        )
        cursor.execute(
            'INSERT INTO "session" ("id", "userId", "token", "expiresAt", "updatedAt") '
            "VALUES (%s, %s, 'secret', now() + interval '1 day', now())",
            [row, row],
        )
    return row
