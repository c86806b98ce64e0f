"""The parts of a benchmark at work: the data, our server on it, a server that lets everybody in."""

import sys
from collections.abc import Iterator
from math import isfinite

import psycopg
import pytest

from benchmarks import environment as environment_module
from benchmarks.data import build
from benchmarks.environment import Environment, prepare
from benchmarks.targets import OURS, Target
from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import StartError
from tests.fixtures.servers.forked import python

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


def test_our_server_takes_what_the_data_builder_signs_and_nothing_else(environment: Environment) -> None:
    with environment.running(OURS) as server:
        assert server.wrongly_accepted() == []
        statuses = {why: server.status(bad) for why, bad in server.credentials.bad.items()}

    assert statuses == {
        "a broken signature": 401,
        "nothing": 401,
        "an expired token": 401,
        "no live session": 404,
        "an unknown user": 404,
    }


def test_the_data_is_built_once_and_is_as_large_as_asked_for(environment: Environment, database: str) -> None:
    with psycopg.connect(database) as connection:
        users = connection.execute('SELECT count(*) FROM "user"').fetchone()
        live = 'SELECT count(*), count(*) FILTER (WHERE "expiresAt" > now()) FROM "session"'
        assert users == (USERS,)
        assert connection.execute(live).fetchone() == (SESSIONS, SESSIONS // 3)

    build(database, USERS, SESSIONS)

    with psycopg.connect(database) as connection:
        assert connection.execute('SELECT count(*) FROM "jwks"').fetchone() == (2,)


def test_data_of_another_size_is_left_alone(environment: Environment, database: str) -> None:
    with pytest.raises(StartError, match="50 users and 100 sessions"):
        build(database, USERS + 1, SESSIONS)


def test_a_target_without_authentication_is_found(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_module, "peers_python", lambda: sys.executable)
    everybody = Target("everybody", "", "tests.fixtures.chatkit.everybody:app", cases=("list",))

    with environment.running(everybody) as server:
        found = server.wrongly_accepted()

    assert set(found) == {
        *["a broken signature", "nothing", "an expired token", "no live session", "an unknown user"]
    }


def test_the_profile_names_every_layer_and_its_floor(environment: Environment, database: str) -> None:
    size = ["--users", str(USERS), "--sessions", str(SESSIONS)]

    told = benchmarks("profile", "--database", database, "--requests", "10", *size)

    for layer in (
        "server and event loop",
        "token, verified a moment ago",
        "statement of identity",
        "statement of store",
    ):
        row = next(line for line in told.splitlines() if line.startswith(f"| {layer} |"))
        cpu, calls, floor = map(float, row.split("|")[2:5])
        assert calls >= 1
        assert isfinite(cpu)
        assert isfinite(floor)


def test_help_names_the_targets_and_the_cases() -> None:
    told = benchmarks("--help")

    assert "bridge_jwt_db" in told
    assert "resolve" in told
