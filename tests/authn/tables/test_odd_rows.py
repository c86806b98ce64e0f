"""Unusual rows in Better Auth's tables: infinite dates, and dates that Python cannot represent."""

from typing import Any

import pytest
from django.test import Client

from authn import sessions
from authn.errors import UserBanned
from authn.jwt import keys, tokens
from authn.models import User
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.refusals import post
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.database.rows import sql

pytestmark = pytest.mark.django_db

ALWAYS = ["infinity", "33658-09-27 01:46:40+00", "9999-12-31 23:59:59+00"]
PAST = ["-infinity", "0044-03-15 12:00:00+00 BC"]


@pytest.mark.parametrize("moment", ALWAYS)
def test_a_key_that_expires_at_infinity_is_good_and_other_keys_are_read_too(
    signer: Signer, moment: str
) -> None:
    other = Signer.in_jwks_table()

    sql('UPDATE "jwks" SET "expiresAt" = %s WHERE "id" = %s', moment, signer.kid)

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert tokens.verify(other.token()).key_id == other.kid


@pytest.mark.parametrize("moment", [*ALWAYS, *PAST])
def test_an_infinite_expiry_in_a_column_without_a_time_zone_is_good(signer: Signer, moment: str) -> None:
    sql('ALTER TABLE "jwks" ALTER COLUMN "expiresAt" TYPE timestamp(3)')

    sql('UPDATE "jwks" SET "expiresAt" = %s WHERE "id" = %s', moment, signer.kid)

    assert (keys.find(signer.kid) is not None) == (moment in ALWAYS)


@pytest.mark.parametrize("moment", ALWAYS)
def test_a_session_that_expires_at_infinity_is_accepted(
    client: Client, person: Person, moment: str, settings: Any
) -> None:
    settings.BETTER_AUTH_CREDENTIALS = ["jwt", "bearer"]
    settings.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = False
    shown = [person.token(), person.session_token]

    sql('UPDATE "session" SET "expiresAt" = %s WHERE "userId" = %s', moment, person.user_id)

    assert [post(client, f"Bearer {each}").status_code for each in shown] == [200, 200]


@pytest.mark.parametrize("moment", PAST)
def test_a_session_that_expires_at_minus_infinity_is_refused(
    client: Client, person: Person, moment: str
) -> None:
    token = person.token()

    sql('UPDATE "session" SET "expiresAt" = %s WHERE "userId" = %s', moment, person.user_id)

    assert post(client, f"Bearer {token}").status_code == 404


@pytest.mark.parametrize("moment", [*ALWAYS, *PAST])
def test_infinite_dates_in_other_columns_do_not_matter(client: Client, person: Person, moment: str) -> None:
    token = person.token()
    sql(
        'UPDATE "user" SET "createdAt" = %s, "updatedAt" = %s WHERE "id" = %s', moment, moment, person.user_id
    )
    sql(
        'UPDATE "session" SET "createdAt" = %s, "updatedAt" = %s WHERE "userId" = %s',
        moment,
        moment,
        person.user_id,
    )

    assert post(client, f"Bearer {token}").status_code == 200
    assert User.objects.get(id=person.user_id).created_at.year in (1, 9999)


def test_a_banned_user_gets_a_403_and_not_a_404_for_the_session(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = tokens.verify(person.token())
    sql('UPDATE "session" SET "expiresAt" = now() WHERE "userId" = %s', person.user_id)
    monkeypatch.setattr(User, "is_banned", True)

    with pytest.raises(UserBanned):
        sessions.resolve(claims)
    with pytest.raises(UserBanned):
        sessions.resolve_token(person.session_token, is_signed=True)
