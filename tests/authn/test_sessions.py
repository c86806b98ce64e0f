"""Users and active sessions, read from rows that Better Auth itself wrote."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from authn import sessions
from authn.errors import NoActiveSession, Refused, TokenRefused, TooManyAttempts, UserBanned, UserNotFound
from authn.jwt import tokens
from authn.jwt.tokens import Claims
from authn.models import Session, User
from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import PASSWORD, BetterAuth, Person
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.servers.api import Api, operation

pytestmark = pytest.mark.django_db


def claims_of(person: Person, **changes: Any) -> Claims:
    """Claims of a verified token. ``sid=None``: without a session, like Better Auth's default payload."""
    now = timezone.now()
    claims = {
        "subject": person.user_id,
        "email": person.email,
        "session_id": None,
        "issued_at": now,
        "expires_at": now + timedelta(minutes=15),
        "key_id": "key",
        "algorithm": "EdDSA",
        "payload": "{}",
    }
    return Claims(**(claims | changes))


def test_a_real_token_resolves_to_its_user_and_its_own_session(person: Person) -> None:
    person.auth.sign_in(person.email)  # another session that expires later
    claims = tokens.verify(person.token())

    identity = sessions.resolve(claims)

    assert identity.user_id == identity.user.id == person.user_id
    assert (identity.user.email, identity.user.name) == (person.email, person.name)
    assert identity.session.id == claims.session_id == person.session_id
    assert identity.session.user == identity.user
    assert identity.session.is_active
    assert identity.claims == claims
    assert identity.user.is_authenticated


def test_one_statement_finds_user_and_session_and_names_its_columns(
    person: Person, django_assert_num_queries: Callable[..., Any]
) -> None:
    claims = claims_of(person)

    with django_assert_num_queries(1) as statements:
        identity = sessions.resolve(claims)
        _ = identity.user.email, identity.session.expires_at, identity.session.user.name

    sql = statements[0]["sql"]
    assert '"token"' not in sql
    assert "member" not in sql  # BETTER_AUTH_PLUGINS does not list the organization() plugin
    assert "*" not in sql

    with django_assert_num_queries(1):
        _ = sessions.resolve_token(person.session_token, is_signed=True).user.name


def refusal(claims: Claims) -> str:
    with pytest.raises(Refused) as refused:
        sessions.resolve(claims)
    return refused.value.reason


def test_sign_out_ends_the_tokens_session_even_if_the_user_has_others(
    person: Person, django_assert_num_queries: Callable[..., Any]
) -> None:
    claims, other = tokens.verify(person.token()), person.auth.sign_in(person.email)
    person.sign_out()

    with django_assert_num_queries(1):
        with_another = refusal(claims)
    other.sign_out()
    with django_assert_num_queries(1):
        without = refusal(claims)

    assert (with_another, without) == ("session_ended", "no_active_session")


def test_an_expired_session_or_another_users_session_does_not_count(
    person: Person, other_person: Person
) -> None:
    claims, other = tokens.verify(person.token()), person.auth.sign_in(person.email)
    Session.objects.using("default").filter(id=other.session_id).update(expires_at=timezone.now())
    person.sign_out()

    assert other_person.session_id
    assert refusal(claims) == "no_active_session"


def test_without_a_sid_any_active_session_counts(person: Person) -> None:
    second = person.auth.sign_in(person.email)
    person.sign_out()

    identity = sessions.resolve(claims_of(person))

    assert identity.session.id == second.session_id


def test_an_expired_session_does_not_count_although_its_row_exists(person: Person) -> None:
    claims = tokens.verify(person.token())
    Session.objects.using("default").filter(user=person.user_id).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )

    for which in (claims, claims_of(person)):
        with pytest.raises(NoActiveSession):
            sessions.resolve(which)


def test_another_users_session_does_not_count(person: Person, other_person: Person) -> None:
    assert refusal(claims_of(person, session_id=other_person.session_id)) == "session_ended"


def test_a_deleted_user_is_not_found(person: Person) -> None:
    claims = tokens.verify(person.token())
    person.post("delete-user", password=PASSWORD)

    with pytest.raises(UserNotFound):
        sessions.resolve(claims)


def test_a_changed_email_is_refused_until_the_token_has_the_new_one(
    person: Person, django_assert_num_queries: Callable[..., Any]
) -> None:
    claims = tokens.verify(person.token())
    person.change_email(f"new-{person.email}")

    with django_assert_num_queries(2):
        reason = refusal(claims)

    assert reason == "address_changed"
    assert sessions.resolve(tokens.verify(person.token())).user_id == person.user_id


def with_capitals(person: Person) -> None:
    """Another program may have written the row: Better Auth's unique constraint is case-sensitive."""
    email = f" {person.email.upper()} "
    User.objects.using("default").filter(id=person.user_id).update(email=email)


def test_a_stored_email_with_capitals_is_found(
    person: Person, django_assert_num_queries: Callable[..., Any]
) -> None:
    with_capitals(person)
    claims = tokens.verify(person.token())

    with django_assert_num_queries(2):
        identity = sessions.resolve(claims)
        _ = identity.session.user.name

    assert (identity.user_id, identity.session.id) == (person.user_id, claims.session_id)
    person.sign_out()
    assert refusal(claims) == "no_active_session"


def test_a_token_is_refused_if_another_user_has_its_email_in_lower_case(
    person: Person, other_person: Person
) -> None:
    with_capitals(person)
    User.objects.using("default").filter(id=other_person.user_id).update(email=person.email)

    assert refusal(claims_of(person)) == "subject_mismatch"
    assert sessions.resolve(claims_of(other_person, email=person.email)).user_id == other_person.user_id


def test_an_email_that_is_equal_only_after_case_folding_is_another_email(person: Person) -> None:
    User.objects.using("default").filter(id=person.user_id).update(email="strasse@example.com")

    assert refusal(claims_of(person, email="stra\u00dfe@example.com")) == "address_changed"


def test_an_old_token_is_refused_after_its_email_moved_to_another_user(person: Person) -> None:
    claims, address = tokens.verify(person.token()), person.email
    person.change_email(f"new-{address}")
    heir = person.auth.sign_up(email=address)

    with pytest.raises(TokenRefused) as refused:
        sessions.resolve(claims)

    assert refused.value.reason == "subject_mismatch"
    assert sessions.resolve(tokens.verify(heir.token())).user_id == heir.user_id


def test_an_old_token_is_refused_after_its_account_was_deleted_and_recreated(person: Person) -> None:
    claims = tokens.verify(person.token())
    person.post("delete-user", password=PASSWORD)
    person.auth.sign_up(email=person.email)

    with pytest.raises(TokenRefused):
        sessions.resolve(claims)


def test_a_banned_user_is_refused_with_every_credential_and_the_log_names_the_session(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = tokens.verify(person.token())
    monkeypatch.setattr(User, "is_banned", True)

    for look_up in (
        partial(sessions.resolve, claims),
        partial(sessions.resolve_token, person.session_token, is_signed=True),
    ):
        with pytest.raises(UserBanned) as banned:
            look_up()
        assert (banned.value.session or Session()).id == person.session_id


def test_an_unknown_session_token_is_a_404_if_signed_and_a_401_if_not(
    person: Person,
) -> None:
    with pytest.raises(NoActiveSession):
        sessions.resolve_token("made-up", is_signed=True)
    with pytest.raises(TokenRefused) as refused:
        sessions.resolve_token("made-up", is_signed=False)

    assert refused.value.reason == "unknown_token"


def test_hostile_values_are_refused_before_the_database_sees_them(signer: Signer, person: Person) -> None:
    for changes in ({"sub": "a\0"}, {"sid": "a\0"}, {"email": "a\0@example.com"}, {"sid": "\ud800"}):
        with pytest.raises(TokenRefused):
            tokens.verify(signer.token(**{"sub": person.user_id, "email": person.email} | changes))


@pytest.mark.parametrize(
    "sid", ["abc", "8", "9" * 128, "-1", "07", "_", "0x7", "26e96b3fbd684c789c8dfd1079731ec6"]
)
def test_a_sid_or_sub_of_another_type_is_refused_without_a_database_error(ids: str, sid: str) -> None:
    """With ids of every type, and any value from a team's definePayload."""
    ada = Person(BetterAuth(""), "Ada", "ada@example.com", httpx2.Client(), user_id=ids)

    assert refusal(claims_of(ada, session_id=sid)) == "session_ended"
    assert refusal(claims_of(ada, subject=sid, email="bob@example.com")) == "user_not_found"

    assert refusal(claims_of(ada, email="ada@example.org")) == "address_changed"
    assert sessions.resolve(claims_of(ada, session_id=ids)).session.id == ids
    assert sessions.resolve(claims_of(ada)).user_id == ids


def test_columns_and_rows_of_unknown_plugins_do_not_matter(person: Person) -> None:
    with connection.cursor() as cursor:
        cursor.execute('ALTER TABLE "user" ADD COLUMN "loyaltyPoints" integer')
        cursor.execute('ALTER TABLE "session" ADD COLUMN "activeOrganizationId" text')

    assert sessions.resolve(claims_of(person)).user_id == person.user_id


def test_with_the_admin_plugin_a_ban_is_a_403_until_it_ends(
    postgres_url: str, start_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> None:
    url = create_database(postgres_url, "with_admin_plugin")
    own = {"DATABASE_URL": url, "BETTER_AUTH_PLUGINS": "admin"}
    with start_better_auth(**own) as auth, start_api(**own, BETTER_AUTH_URL=auth.origin) as api:
        person = auth.sign_up()
        token = person.token()
        outcomes = [outcome(api, token)]
        for ban in ("banned = true", "\"banExpires\" = now() - interval '1 s'", "banned = NULL"):
            with psycopg.connect(url) as database:
                database.execute(f'UPDATE "user" SET {ban} WHERE id = %s', [person.user_id])
            outcomes.append(outcome(api, token))

    assert outcomes == ["accepted", "User is banned", "accepted", "accepted"]


def outcome(api: Api, token: str) -> str:
    # This database has no chat tables, so use an operation that needs none.
    response = api.post(operation("input.transcribe", audio_base64="AAAA", mime_type="audio/webm"), token)
    return {501: "accepted", 403: str(response.json()["error"])}[response.status_code]


def test_every_refusal_has_its_reason() -> None:
    for kind in Refused.__subclasses__():
        refused = kind(60) if kind is TooManyAttempts else kind()
        assert refused.reason == kind.default_code
