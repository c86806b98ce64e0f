"""The parts of a benchmark: the data, our server with it, and a server without authentication."""

import sys
from collections.abc import Iterator
from math import isfinite

import psycopg
import pytest

from benchmarks import environment as environment_module
from benchmarks.data import build
from benchmarks.environment import Environment, prepare
from benchmarks.servers.pgbouncer import PGBOUNCER, pgbouncer, prepared_statements
from benchmarks.targets import OURS, Target
from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import StartError
from tests.fixtures.servers.forkserver import python

USERS, SESSIONS = 50, 100


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    return create_database(postgres_url, "benchmark")


@pytest.fixture(scope="module")
def environment(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment_module, "FOLDER", tmp_path_factory.mktemp("benchmarks"))
        with prepare(USERS, SESSIONS, database) as environment:
            yield environment


def benchmarks(*arguments: str) -> str:
    """``python -m benchmarks`` with these arguments; returns what it printed."""
    program = "import runpy, sys; sys.argv[1:] = {}; runpy.run_module('benchmarks', run_name='__main__')"
    done = python(program.format([*arguments]))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_our_server_accepts_the_good_credentials_and_refuses_the_bad_ones(environment: Environment) -> None:
    with environment.running(OURS) as server:
        assert server.wrongly_accepted() == []
        statuses = {why: server.status(bad) for why, bad in server.credentials.bad.items()}

    assert statuses == {
        "a broken signature": 401,
        "nothing": 401,
        "an expired token": 401,
        "users without a live session": 404,
        "unknown users": 404,
    }


def test_the_data_is_built_once_with_the_given_size(environment: Environment, database: str) -> None:
    with psycopg.connect(database) as connection:
        users = connection.execute('SELECT count(*) FROM "user"').fetchone()
        live = 'SELECT count(*), count(*) FILTER (WHERE "expiresAt" > now()) FROM "session"'
        assert users == (USERS,)
        assert connection.execute(live).fetchone() == (SESSIONS, SESSIONS // 3)

    build(database, USERS, SESSIONS)

    with psycopg.connect(database) as connection:
        assert connection.execute('SELECT count(*) FROM "jwks"').fetchone() == (2,)


def test_existing_data_of_another_size_is_not_changed(environment: Environment, database: str) -> None:
    with pytest.raises(StartError, match="50 users and 100 sessions"):
        build(database, USERS + 1, SESSIONS)


def test_a_target_without_authentication_is_found(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_module, "peers_python", lambda: sys.executable)
    everybody = Target("everybody", "", "tests.fixtures.chatkit.unauthenticated_server:app", cases=("list",))

    with environment.running(everybody) as server:
        found = server.wrongly_accepted()

    assert set(found) == {
        *[
            "a broken signature",
            "nothing",
            "an expired token",
            "users without a live session",
            "unknown users",
        ]
    }


@pytest.mark.parametrize(
    ("operation", "layer_of_the_operation"),
    [("threads.list", "SQL statement of store"), ("threads.create", "ChatKit")],
)
def test_the_profile_shows_every_layer_with_its_minimum(
    environment: Environment, database: str, operation: str, layer_of_the_operation: str
) -> None:
    options = ["--operation", operation, "--users", str(USERS), "--sessions", str(SESSIONS)]

    output = benchmarks("profile", "--database", database, "--requests", "10", *options)

    for layer in (
        "server and event loop",
        "token, already verified",
        "SQL statement of identity",
        layer_of_the_operation,
    ):
        row = next(line for line in output.splitlines() if line.startswith(f"| {layer} |"))
        cpu, calls, minimum = map(float, row.split("|")[2:5])
        assert calls >= 1
        assert isfinite(cpu)
        assert isfinite(minimum)


@pytest.mark.skipif(not PGBOUNCER, reason="PgBouncer is missing: apt install pgbouncer")
def test_a_statement_that_is_prepared_through_the_pooler_is_found(database: str) -> None:
    with pgbouncer(database) as url:
        nothing = prepared_statements(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT 1", prepare=True)

        assert (nothing, prepared_statements(url)) == (0, 1)


def test_help_lists_the_targets_and_the_cases() -> None:
    output = benchmarks("--help")

    assert "bridge_jwt_db" in output
    assert "resolve" in output
