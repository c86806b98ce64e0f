"""Staff with permission revoke sessions after a confirmation, and each revocation is logged."""

import json
import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import quote
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from django.urls import reverse

from authn.admin import revoking
from authn.models import Session
from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.fixtures.servers.api import Api, operation
from tests.fixtures.servers.forkserver import manage

Audit = Callable[[], list[dict[str, Any]]]

SESSIONS = "/admin/authn/session/"
CONFIRMED = {"confirmed": "yes"}


@pytest.fixture
def staff(auth: Any, db: None) -> Client:
    return signed_in(*VIEW, "revoke_session", "revoke_all_sessions")


def revoke_form(*people: Person) -> dict[str, Any]:
    return {"action": "revoke", "_selected_action": [person.session_id for person in people]}


def revoke_all_url(person: Person) -> str:
    return reverse("admin:authn_user_revoke", args=[person.user_id])


def revoke_one_url(person: Person) -> str:
    return reverse("admin:authn_session_revoke", args=[quote(person.session_id)])


def active_ids(*people: Person) -> list[str]:
    ids = [session.id for session in Session.objects.filter(user_id__in=[each.user_id for each in people])]
    return sorted(ids)


def test_chosen_sessions_are_revoked_after_a_confirmation(
    staff: Client, person: Person, other_person: Person
) -> None:
    elsewhere = person.auth.sign_in(person.email)
    ids = [person.session_id, other_person.session_id]

    asked = staff.post(SESSIONS, revoke_form(person, other_person))
    before = active_ids(person, other_person)
    done = staff.post(SESSIONS, revoke_form(person, other_person) | CONFIRMED, follow=True)

    assert all(text in asked.content.decode() for text in (*ids, person.email, other_person.email))
    assert before == sorted([*ids, elsewhere.session_id])
    assert active_ids(person, other_person) == [elsewhere.session_id]
    assert "2 sessions revoked." in done.content.decode()


def test_all_sessions_of_a_user_are_revoked_after_a_confirmation(
    staff: Client, person: Person, other_person: Person
) -> None:
    person.auth.sign_in(person.email)
    page = staff.get(reverse("admin:authn_user_change", args=[person.user_id])).content.decode()

    asked = staff.get(revoke_all_url(person)).content.decode()
    before = active_ids(person)
    done = staff.post(revoke_all_url(person), CONFIRMED, follow=True)

    assert f'href="{revoke_all_url(person)}"' in page
    assert all(session_id in asked for session_id in before)
    assert (len(before), active_ids(person, other_person)) == (2, [other_person.session_id])
    assert "2 sessions revoked." in done.content.decode()


def test_a_session_is_revoked_on_its_own_page_after_a_confirmation(staff: Client, person: Person) -> None:
    elsewhere = person.auth.sign_in(person.email)
    page = staff.get(reverse("admin:authn_session_change", args=[quote(person.session_id)])).content.decode()

    asked = staff.get(revoke_one_url(person)).content.decode()
    before = active_ids(person)
    done = staff.post(revoke_one_url(person), CONFIRMED, follow=True)

    assert f'href="{revoke_one_url(person)}"' in page
    assert all(text in asked for text in (person.session_id, person.email, "This session ends at once."))
    assert (len(before), active_ids(person)) == (2, [elsewhere.session_id])
    assert "1 session revoked." in done.content.decode()
    assert staff.get(revoke_one_url(person)).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_revocation_takes_effect_on_the_next_request(staff: Client, api: Api, person: Person) -> None:
    token, elsewhere = person.token(), person.auth.sign_in(person.email)
    listed = operation("threads.list")
    statuses = [api.post(listed, token).status_code]

    staff.post(SESSIONS, revoke_form(person) | CONFIRMED)
    statuses += [api.post(listed, token).status_code, api.post(listed, elsewhere.token()).status_code]
    statuses.append(person.browser.get("token").status_code)  # Better Auth's own answer
    token = elsewhere.token()
    staff.post(revoke_all_url(person), CONFIRMED)
    statuses.append(api.post(listed, token).status_code)

    # 401 while the user has another active session: a new token helps.
    assert statuses == [
        200,
        401,
        200,
        401,
        404,
    ]


# --- Permissions ----------------------------------------------------------------------------------------


def offers_revocation(staff: Client, person: Person) -> list[bool]:
    """Whether the list has the action like the session's page, and the user's page has the button."""
    listed = staff.get(SESSIONS).content.decode()
    own = staff.get(reverse("admin:authn_session_change", args=[quote(person.session_id)])).content.decode()
    page = staff.get(reverse("admin:authn_user_change", args=[person.user_id])).content.decode()
    assert ('value="revoke"' in listed) == (revoke_one_url(person) in own)
    return ['value="revoke"' in listed, revoke_all_url(person) in page]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rights", "may"),
    [
        ([*VIEW], [False, False]),
        ([*VIEW, "revoke_session"], [True, False]),
        ([*VIEW, "revoke_all_sessions"], [False, True]),
    ],
    ids=["neither", "chosen", "all"],
)
def test_each_way_to_revoke_has_its_own_permission(
    person: Person, rights: list[str], may: list[bool]
) -> None:
    staff = signed_in(*rights)
    seen = offers_revocation(staff, person)

    own_page = [staff.get(revoke_one_url(person)).status_code]
    staff.post(SESSIONS, revoke_form(person) | CONFIRMED)
    has_chosen = not active_ids(person)
    own_page.append(staff.post(revoke_one_url(person), CONFIRMED).status_code)
    statuses = [staff.get(revoke_all_url(person)).status_code]
    person.auth.sign_in(person.email)
    statuses.append(staff.post(revoke_all_url(person), CONFIRMED).status_code)

    assert (seen, [has_chosen, not active_ids(person)]) == (may, may)
    assert statuses == ([200, 302] if may[1] else [403, 403])
    assert own_page == ([200, 404] if may[0] else [403, 403])


@pytest.mark.django_db
def test_the_permission_to_revoke_does_not_include_viewing(person: Person) -> None:
    staff = signed_in("view_user", "revoke_session", "revoke_all_sessions")

    responses = [
        staff.post(SESSIONS, revoke_form(person) | CONFIRMED),
        staff.post(revoke_all_url(person), CONFIRMED),
        staff.post(revoke_one_url(person), CONFIRMED),
    ]

    assert [response.status_code for response in responses] == [403, 403, 403]
    assert active_ids(person) == [person.session_id]


@pytest.mark.django_db
def test_another_site_cannot_make_staff_revoke_sessions(person: Person) -> None:
    staff = signed_in(*VIEW, "revoke_session", "revoke_all_sessions", enforce_csrf_checks=True)

    responses = [
        staff.post(SESSIONS, revoke_form(person) | CONFIRMED),
        staff.post(revoke_all_url(person), CONFIRMED),
        staff.post(revoke_one_url(person), CONFIRMED),
    ]

    assert [response.status_code for response in responses] == [403, 403, 403]
    assert active_ids(person) == [person.session_id]


def test_only_ticked_sessions_are_revoked_whatever_is_posted(
    staff: Client, person: Person, other_person: Person
) -> None:
    staff.post(SESSIONS, revoke_form(person) | CONFIRMED | {"select_across": "1"})
    staff.post(
        SESSIONS,
        {"action": "revoke", "_selected_action": ["7\0", "' OR 1=1"], "select_across": "1"} | CONFIRMED,
    )

    assert active_ids(person, other_person) == [other_person.session_id]


def test_no_revocation_is_offered_if_sessions_are_in_redis(
    staff: Client, person: Person, settings: Any
) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "redis://localhost"
    page = staff.get(reverse("admin:authn_user_change", args=[person.user_id])).content.decode()

    responses = [
        staff.post(SESSIONS, revoke_form(person) | CONFIRMED),
        staff.post(revoke_all_url(person), CONFIRMED),
    ]

    assert revoke_all_url(person) not in page
    assert [response.status_code for response in responses] == [403, 403]
    assert active_ids(person) == [person.session_id]


def test_no_revocation_is_offered_if_the_role_may_not_delete(staff: Client, person: Person) -> None:
    with connection.cursor() as cursor:  # the test's rollback undoes it, with the role
        cursor.execute("CREATE ROLE looks; GRANT ALL ON ALL TABLES IN SCHEMA public TO looks")
        cursor.execute('REVOKE DELETE ON "session" FROM looks; SET LOCAL ROLE looks')
        seen = offers_revocation(staff, person)
        status = staff.post(revoke_all_url(person), CONFIRMED).status_code
        cursor.execute("RESET ROLE")

    assert (seen, status) == ([False, False], 403)
    assert active_ids(person) == [person.session_id]


def test_no_revocation_is_offered_on_a_read_replica(person: Person, db: None) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")  # as on a replica
        is_possible = revoking.is_possible()
        transaction.set_rollback(True)

    assert not is_possible


@pytest.mark.parametrize("way", ["chosen", "all"])
def test_sessions_with_ids_of_any_type_are_revoked(staff: Client, ids: str, way: str) -> None:
    posted = {
        "chosen": (SESSIONS, {"action": "revoke", "_selected_action": [ids]}),
        "all": (f"/admin/authn/user/{ids}/revoke/", {}),
    }

    address, data = posted[way]
    staff.post(address, data | CONFIRMED)

    assert not Session.objects.exists()


# --- Logs ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["chosen", "all"])
def test_a_revocation_is_logged_in_the_admin_and_in_the_audit_log(
    staff: Client, person: Person, audit: Audit, way: str
) -> None:
    session_id, secret = person.session_id, person.session_token
    address, data = (SESSIONS, revoke_form(person)) if way == "chosen" else (revoke_all_url(person), {})

    staff.post(address, data | CONFIRMED, headers={"User-Agent": "Browser/1.0", "X-Request-ID": "of-staff"})

    [record] = audit()
    names = ("outcome", "reason", "revoked_by", "user_id", "session_id", "request_id", "user_agent")
    assert [record[name] for name in names] == [
        "revoked",
        "by_staff",
        "staff",
        person.user_id,
        session_id,
        "of-staff",
        "Browser/1.0",
    ]
    assert (record["client_address"], record["levelno"]) == ("127.0.0.1", logging.INFO)
    entries = LogEntry.objects.filter(user__username="staff").order_by("action_flag")
    assert [(entry.action_flag, entry.object_id, entry.user.get_username()) for entry in entries] == [
        (CHANGE, person.user_id, "staff"),
        (DELETION, session_id, "staff"),
    ]
    history = staff.get(reverse("admin:authn_user_history", args=[person.user_id])).content.decode()
    assert f"Revoked sessions: {session_id}." in history
    logged = json.dumps([record, *entries.values()], default=str)
    assert secret not in logged
    assert secret not in history


def test_a_session_that_had_ended_already_is_not_logged(staff: Client, person: Person, audit: Audit) -> None:
    session = revoke_form(person)
    person.sign_out()

    done = staff.post(SESSIONS, session | CONFIRMED, follow=True)
    twice = staff.post(revoke_all_url(person), CONFIRMED, follow=True)

    assert [b"There was nothing to revoke." in page.content for page in (done, twice)] == [True, True]
    assert (audit(), LogEntry.objects.filter(user__username="staff").count()) == ([], 0)


def test_a_revocation_that_cannot_be_logged_is_not_done(staff: Client, person: Person, audit: Audit) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the log is full'; END $$;"
            "CREATE TRIGGER refused BEFORE INSERT ON django_admin_log EXECUTE FUNCTION refuse()"
        )

    with pytest.raises(ProgrammingError, match="the log is full"):
        staff.post(revoke_all_url(person), CONFIRMED)

    assert active_ids(person) == [person.session_id]
    assert audit() == []


def test_revoking_is_the_only_write_to_better_auths_tables(staff: Client, person: Person) -> None:
    written: list[str] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.lstrip().startswith(("SELECT", "SAVEPOINT", "RELEASE")):
            written.append(" ".join(sql.split()[:3]))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        staff.post(revoke_all_url(person), CONFIRMED)

    assert [statement for statement in written if "django_" not in statement] == ['DELETE FROM "session"']


# --- Migrations --------------------------------------------------------------------------


def test_migrate_creates_the_permissions_in_a_new_database(postgres_url: str) -> None:
    url = create_database(postgres_url, "fresh_rights")

    migrated = manage("migrate", DATABASE_URL=url)

    assert migrated.returncode == 0, migrated.stderr
    with psycopg.connect(url) as database:
        rights = database.execute(
            "SELECT codename FROM auth_permission p JOIN django_content_type t ON t.id = p.content_type_id "
            "WHERE t.app_label = 'authn' ORDER BY 1"
        ).fetchall()
    assert [name for (name,) in rights] == [
        "revoke_all_sessions",
        "revoke_session",
        "view_session",
        "view_user",
    ]
