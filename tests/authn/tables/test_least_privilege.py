"""Our server and the admin work with a role that may read only the columns we read.

The GRANT statements come from docs/compatibility.md, so these tests prove what the document tells teams.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from django.contrib.auth.models import User as Staff
from django.db import connection
from django.test import Client

from authn.models import Session, SigningKey, User
from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.servers.api import Api, eventually, operation
from tests.fixtures.servers.deployments import with_plugins

PAGE = Path(__file__).parents[3] / "docs/compatibility.md"
GRANT = re.compile(r"^GRANT SELECT \((?P<columns>.*)\) ON (?P<table>\S+) TO \w+;", re.MULTILINE)

ROLE, _, _, GRANT_DELETE, INDEXES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
GRANTS = [
    (found["table"], column) for found in GRANT.finditer(ROLE) for column in found["columns"].split(", ")
]


@pytest.fixture(scope="module")
def owner(postgres_url: str) -> str:
    """The URL of Better Auth's database for its owner."""
    return create_database(postgres_url, "least_privilege")


@pytest.fixture(scope="module")
def better_auth(owner: str, start_other_better_auth: Callable[..., Any]) -> Iterator[BetterAuth]:
    with start_other_better_auth(DATABASE_URL=owner, PLUGINS=with_plugins("admin")) as running:
        yield running


@pytest.fixture(scope="module")
def reader(owner: str, better_auth: BetterAuth) -> str:
    """The URL of the same database for the role that the documentation creates."""
    with psycopg.connect(owner) as database:
        database.execute(ROLE)
    _, _, host = urlsplit(owner).netloc.rpartition("@")
    return f"postgresql://chatbackend_reader:a-password-of-its-own@{host}/least_privilege"


@pytest.fixture(scope="module")
def api(reader: str, better_auth: BetterAuth, start_api: Callable[..., Any]) -> Iterator[Api]:
    own = {"BETTER_AUTH_DATABASE_URL": reader, "BETTER_AUTH_PLUGINS": "admin"}
    with start_api(
        **own,
        BETTER_AUTH_URL=better_auth.origin,
        BETTER_AUTH_KEYS_TTL_SECONDS="0.001",
        SUPPORT_RATE_PER_USER="100000/min",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def person(better_auth: BetterAuth) -> Person:
    return better_auth.sign_up()


@pytest.fixture(scope="module")
def staff(api: Api, django_db_blocker: Any) -> Iterator[httpx2.Client]:
    """A client that is signed in to the admin of the running server."""
    client = Client()
    with django_db_blocker.unblock():
        member = Staff.objects.create_superuser("reader")
        client.force_login(member)
        connection.close()
    cookie = {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}
    with httpx2.Client(base_url=f"{api.origin}/admin/authn/", headers=cookie, timeout=30) as browser:
        yield browser
    with django_db_blocker.unblock():
        member.delete()  # with their log entries of the admin
        connection.close()


def test_the_models_name_exactly_the_columns_that_are_granted() -> None:
    """A server with the admin plugin. The models of this process do not declare its columns."""
    declared = {
        (f'"{model._meta.db_table}"', f'"{column.column}"')
        for model in (User, Session, SigningKey)
        for column in model._meta.concrete_fields
    }

    admins = {'"role"', '"banned"', '"banReason"', '"banExpires"', '"impersonatedBy"'}
    assert set(GRANTS) - declared == {grant for grant in GRANTS if grant[1] in admins}
    assert declared < set(GRANTS)


def test_a_user_signs_in_and_out_with_the_least_privileged_role(api: Api, better_auth: BetterAuth) -> None:
    person = better_auth.sign_up()
    token = person.token()

    assert api.post(operation("threads.list"), token).status_code == 200
    person.sign_out()
    assert api.post(operation("threads.list"), token).status_code == 404


def test_the_admin_works_with_the_least_privileged_role(
    staff: httpx2.Client, api: Api, person: Person
) -> None:
    pages = ("user/", f"user/{person.user_id}/change/", "session/", f"session/{person.session_id}/change/")

    for page in map(staff.get, pages):
        assert page.status_code == 200
        assert person.email in page.text
    assert "Active sessions" in staff.get(f"{api.origin}/admin/").text


def test_the_admin_filters_by_columns_of_the_admin_plugin(
    staff: httpx2.Client, better_auth: BetterAuth, owner: str
) -> None:
    banned, once_banned, impersonated = (better_auth.sign_up() for _ in range(3))
    with psycopg.connect(owner) as database:
        ban = 'UPDATE "user" SET "banned" = true, "banExpires" = now() + %s::interval WHERE "id" = %s'
        database.execute(ban, ["1 day", banned.user_id])
        database.execute(ban, ["-1 day", once_banned.user_id])
        act = 'UPDATE "session" SET "impersonatedBy" = %s WHERE "userId" = %s'
        database.execute(act, [banned.user_id, impersonated.user_id])

    def found(address: str) -> list[bool]:
        page = staff.get(address)
        assert page.status_code == 200
        return [each.email in page.text for each in (banned, once_banned, impersonated)]

    assert found("user/?banned=yes") == [True, False, False]
    assert found("user/?banned=no") == [False, True, True]
    assert found("session/?impersonated=yes") == [False, False, True]
    assert found("session/?impersonated=no") == [True, True, False]


def revoke_all_of(person: Person, staff: httpx2.Client) -> int:
    """Revoke in the admin as a browser does. Returns the status of the confirmation page."""
    address = f"user/{person.user_id}/revoke/"
    page = staff.get(address)
    if page.status_code == 200:
        secret = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert secret is not None
        cookies = f"{staff.headers['Cookie']}; csrftoken={page.cookies['csrftoken']}"
        form = {"csrfmiddlewaretoken": secret[1], "confirmed": "yes"}
        assert staff.post(address, data=form, headers={"Cookie": cookies}).status_code == 302
    return int(page.status_code)


def test_a_role_with_the_delete_grant_revokes_sessions(
    api: Api, staff: httpx2.Client, better_auth: BetterAuth, owner: str
) -> None:
    person = better_auth.sign_up()
    token, page = person.token(), f"user/{person.user_id}/change/"

    def seen() -> list[int]:
        offered = "/revoke/" in staff.get(page).text
        return [offered, revoke_all_of(person, staff), api.post(operation("threads.list"), token).status_code]

    before = seen()
    with psycopg.connect(owner, autocommit=True) as database:
        database.execute(GRANT_DELETE)
        try:
            after = seen()
        finally:
            database.execute('REVOKE DELETE ON "session" FROM chatbackend_reader')

    assert (before, after) == ([False, 403, 200], [True, 200, 404])
    [line] = [line for line in api.log.read_text().splitlines() if '"revoked_by": "reader"' in line]
    assert person.user_id in line
    assert person.session_token not in api.log.read_text()


def test_better_auth_works_with_the_indexes_for_the_admin(
    staff: httpx2.Client, better_auth: BetterAuth, owner: str
) -> None:
    with psycopg.connect(owner, autocommit=True) as database:
        statements = INDEXES.strip().splitlines()
        for statement in statements:
            database.execute(statement)
        person = better_auth.sign_up()
        pages = [staff.get(address).text for address in ("user/", "session/")]
        for statement in statements:
            database.execute(f"DROP INDEX {statement.split()[3]}")

    for page in pages:
        assert "newest 10,000" in page
        assert person.email in page


@pytest.mark.parametrize(("table", "column"), GRANTS, ids=str)
def test_each_granted_column_is_needed(api: Api, person: Person, owner: str, table: str, column: str) -> None:
    token, so_far = person.token(), len(api.log.read_text())

    def statuses_and_log() -> tuple[int, str]:
        return api.post(operation("threads.list"), token).status_code, api.log.read_text()[so_far:]

    with psycopg.connect(owner, autocommit=True) as database:
        database.execute(f"REVOKE SELECT ({column}) ON {table} FROM chatbackend_reader")
        try:
            # A key set that cannot be refreshed stays in use, and is tried again after a pause.
            status, _ = eventually(statuses_and_log, lambda seen: says(seen[1], table))
        finally:
            database.execute(f"GRANT SELECT ({column}) ON {table} TO chatbackend_reader")
    if table == '"jwks"':  # an outage is logged once, so end this one before the next column
        eventually(statuses_and_log, lambda seen: "answers again" in seen[1])

    assert status == (200 if table == '"jwks"' else 500)


def says(log: str, table: str) -> bool:
    return f"permission denied for table {table.strip(chr(34))}" in log


@pytest.mark.parametrize(
    "statement",
    [
        'SELECT "privateKey" FROM jwks',
        'SELECT "token" FROM session',
        "SELECT 1 FROM session WHERE \"token\" = 'guessed'",
        "SELECT * FROM session",
        "SELECT * FROM account",
        "SELECT * FROM verification",
        "INSERT INTO session (id) VALUES ('mine')",
        'UPDATE session SET "expiresAt" = now()',
        "UPDATE \"user\" SET role = 'admin'",
        "DELETE FROM session",
        "TRUNCATE jwks",
        "SELECT id FROM session FOR UPDATE",
        "CREATE TABLE mine (id int)",
    ],
)
def test_nothing_more_is_granted(reader: str, statement: str) -> None:
    with psycopg.connect(reader) as database, pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.execute(statement)
