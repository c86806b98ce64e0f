"""Our server with each Better Auth of ``deployments.py``. Only environment variables differ.

Our own database is the same for all. docs/compatibility.md has exactly these results.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import psycopg
import pytest

from chatbackend.dev.frontend import TEST_BETTER_AUTH
from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.environment import BETTER_AUTH_SECRET
from tests.fixtures.servers.api import Api, operation
from tests.fixtures.servers.deployments import AUTH_ONLY, DEPLOYMENTS, WITH_ADMIN, Deployment

TOP = Path(__file__).parent.parent.parent
PAGE = TOP / "docs/compatibility.md"
# The whole server for the most important deployments. Only authentication for the others.
SERVER_TESTS = {"CHATKIT_CONTEXT": "tests.fixtures.chatkit.servers.build_and_tell"}
PACKAGES = {"oldest": "better-auth-oldest", "1.4": "better-auth-1.4", "newest": "better-auth"}


@dataclass
class Running:
    deployment: Deployment
    database_url: str
    auth: BetterAuth
    api: Api

    def token(self, person: Person) -> str:
        if self.deployment.has_jwt:
            return person.token()
        # A token that a team signs itself with Better Auth's secret, as some did before the jwt() plugin
        # existed.
        session = person.browser.get("get-session").json()["session"]
        now, origin = int(time.time()), self.auth.origin
        claims = {"sub": person.user_id, "email": person.email, "sid": session["id"], "iat": now}
        claims |= {"exp": now + 900, "iss": origin, "aud": origin}
        return jwt.encode(claims, self.deployment.backend["BETTER_AUTH_SECRET"], "HS256")

    def request(self, token: str) -> tuple[int, str, dict[str, Any]]:
        """The status of a ``threads.list``, the reason if it was refused, and its audit record."""
        request_id = str(uuid.uuid4())
        response = self.api.post(operation("threads.list"), token, X_Request_ID=request_id)
        [record] = self.api.audit_records(request_id)
        return response.status_code, response.json().get("error", ""), record

    def logged_identity(self, session_id: str) -> dict[str, Any]:
        """What our server has read from the rows of this session (``log_identity``)."""
        lines = [json.loads(line) for line in self.api.log.read_text().splitlines()]
        logged: list[dict[str, Any]] = [line["identity"] for line in lines if "identity" in line]
        return [identity for identity in logged if identity["session_id"] == session_id][-1]

    def move_expiry(self, session_id: str, moment: datetime) -> None:
        """Write a value as this Better Auth would."""
        written: Any = moment
        if self.deployment.is_on_sqlite:
            written = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        sessions, expires_at = self.deployment.sessions, self.deployment.expires_at
        self.sql(f"UPDATE {sessions} SET {expires_at} = %s WHERE id = %s", written, session_id)

    def session_id(self, person: Person) -> str:
        return str(person.browser.get("get-session").json()["session"]["id"])

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        if self.deployment.is_on_sqlite:
            with closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"))) as database, database:
                return database.execute(statement.replace("%s", "?"), parameters).fetchall()
        with psycopg.connect(self.database_url) as database:
            # This matters for columns without a time zone.
            database.execute(f"SET TIME ZONE '{self.deployment.zone}'")
            cursor = database.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest,
    postgres_url: str,
    database_url: str,
    start_other_better_auth: Callable[..., Any],
    start_api: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    deployment: Deployment = request.param
    backend = {"BETTER_AUTH_CREDENTIALS": "jwt,cookie", "BETTER_AUTH_SECRET": BETTER_AUTH_SECRET}
    backend |= (SERVER_TESTS if deployment.has_admin else AUTH_ONLY) | deployment.backend
    if deployment.is_on_sqlite:
        url = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/auth.db"
    elif deployment.schema != "public":  # in the same database as our tables
        url = f"{database_url}?options={quote(f'-c search_path={deployment.schema}')}"
        with psycopg.connect(database_url) as database:
            database.execute(f'CREATE SCHEMA "{deployment.schema}"')
    else:
        url = create_database(postgres_url, f"deployment_{DEPLOYMENTS.index(deployment)}")
    if deployment.schema == "public":
        backend["BETTER_AUTH_DATABASE_URL"] = url
    with ExitStack() as stack:
        auth = stack.enter_context(start_other_better_auth(**deployment.better_auth, DATABASE_URL=url))
        backend["BETTER_AUTH_URL"] = auth.origin
        if "BETTER_AUTH_JWKS_URL" in backend:
            address = backend["BETTER_AUTH_JWKS_URL"].replace("https://auth.example.com", auth.origin)
            backend |= {"BETTER_AUTH_JWKS_URL": address, "BETTER_AUTH_JWKS_PRIVATE": "True"}
        yield Running(deployment, url, auth, stack.enter_context(start_api(**backend)))
    if deployment.schema != "public":  # other deployments have no such schema
        with psycopg.connect(database_url) as database:
            database.execute(f'DROP SCHEMA "{deployment.schema}" CASCADE')


everywhere = pytest.mark.parametrize("running", DEPLOYMENTS, indirect=True, ids=str)


@everywhere
def test_a_token_is_accepted_with_its_user_and_session(running: Running) -> None:
    person, before = running.auth.sign_up(), datetime.now(UTC)
    session_id = running.session_id(person)

    status, _, record = running.request(running.token(person))

    assert (status, record["outcome"]) == (200, "accepted")
    assert (record["user_id"], record["session_id"]) == (str(person.user_id), session_id)
    identity = running.logged_identity(session_id)
    assert identity["types"] == ["str", "str", "str"]
    assert identity["user"] == [person.name, person.email, False]
    created, expires, signed_up = map(datetime.fromisoformat, identity["times"])
    assert {moment.utcoffset() for moment in (created, expires, signed_up)} == {timedelta(0)}
    rounding, after = timedelta(seconds=1), datetime.now(UTC)
    assert before - rounding < created < after + rounding
    assert before - rounding < signed_up < after + rounding
    assert timedelta(days=6, hours=23) < expires - created < timedelta(days=7, minutes=1)
    assert identity["migrations_to_make"] == "No changes detected"


@everywhere
def test_the_session_cookie_is_accepted_until_sign_out(running: Running) -> None:
    person = running.auth.sign_up()
    shown = {"Cookie": f"better-auth.session_token={person.cookie}", "Origin": running.auth.origin}

    before = running.api.post(operation("threads.list"), **shown).status_code
    person.sign_out()
    after = running.api.post(operation("threads.list"), **shown).status_code

    assert (before, after) == (200, 404)


@everywhere
def test_a_token_is_refused_after_sign_out(running: Running) -> None:
    person = running.auth.sign_up()
    token, other = running.token(person), running.auth.sign_in(person.email)
    person.sign_out()
    with_another = running.request(token)
    other.sign_out()

    status, error, record = running.request(token)

    assert (status, error) == (404, "No active sessions found for user")
    assert record["reason"] == "no_active_session"
    if running.deployment.has_sid:
        assert (with_another[0], with_another[2]["reason"]) == (401, "session_ended")
    else:
        assert with_another[0] == 200


@everywhere
def test_a_session_ends_when_its_row_says_so_and_not_before(running: Running) -> None:
    person = running.auth.sign_up()
    session_id, token, now = running.session_id(person), running.token(person), datetime.now(UTC)

    def after(seconds: int) -> int:
        running.move_expiry(session_id, now + timedelta(seconds=seconds))
        return running.request(token)[0]

    assert [after(-30), after(60), after(-30 * 3600), after(30 * 3600)] == [404, 200, 404, 200]


@pytest.mark.parametrize("running", WITH_ADMIN, indirect=True, ids=str)
def test_an_administrators_ban_and_impersonation_are_recognized(running: Running) -> None:
    administrator, person, banned = (running.auth.sign_up() for _ in range(3))
    token = running.token(banned)
    users = running.deployment.sessions.replace("session", "user")
    running.sql(f"UPDATE {users} SET role = 'admin' WHERE id = %s", administrator.user_id)
    assert running.request(token)[0] == 200

    administrator.post("admin/ban-user", userId=banned.user_id)
    administrator.post("admin/impersonate-user", userId=person.user_id)

    assert running.request(token)[:2] == (403, "User is banned")
    # The administrator's browser now acts as the person.
    status, _, record = running.request(running.token(administrator))
    assert (status, record["user_id"]) == (200, str(person.user_id))
    assert record["impersonated_by"] == str(administrator.user_id)


@everywhere
def test_the_documentation_lists_each_deployment(running: Running) -> None:
    person = running.auth.sign_up()
    header = jwt.get_unverified_header(running.token(person))
    _, _, record = running.request(running.token(person))
    assert record["outcome"] == "accepted"
    package = (
        TEST_BETTER_AUTH
        / "node_modules"
        / PACKAGES[running.deployment.better_auth.get("BETTER_AUTH_VERSION", "newest")]
    )
    version = json.loads((package / "package.json").read_text())["version"]
    plugins = ", ".join(json.loads(running.deployment.better_auth.get("PLUGINS", '{"jwt": {}}')))
    columns = (version, plugins, *column_types(running), header["alg"])

    row = f"| {running.deployment} | {' | '.join(columns)} |"
    variables = "\n".join(f"{name}={value}" for name, value in running.deployment.backend.items())

    page = PAGE.read_text()
    assert row in page
    assert not variables or f"**{running.deployment}**\n\n```shell\n{variables}\n```\n" in page


def test_the_documentation_lists_no_other_deployment() -> None:
    table = PAGE.read_text().partition("| deployment |")[2].partition("\n\n")[0]

    assert [row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()[2:]] == [
        deployment.name for deployment in DEPLOYMENTS
    ]


def column_types(running: Running) -> tuple[str, str]:
    """The database types of an id and of an expiry."""
    names = [running.deployment.expires_at.strip('"'), "id"]
    table = running.deployment.sessions.rpartition(".")[2].strip('"')
    if running.deployment.is_on_sqlite:
        types = dict(running.sql(f"SELECT name, lower(type) FROM pragma_table_info('{table}')"))
    else:
        types = dict(
            running.sql(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_schema = %s AND table_name = %s",
                running.deployment.schema,
                table,
            )
        )
    expiry, key = (types[name] for name in names)
    return key, expiry
