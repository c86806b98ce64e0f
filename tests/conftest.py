"""Fixtures that start PostgreSQL, Better Auth, Redis and our server, once for each process of the run."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from weakref import WeakSet

import environ
import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

from authn import throttling
from authn.admin import refused_attempts
from authn.jwt import keys
from chatbackend.dev.frontend import FRONTEND, TEST_BETTER_AUTH, better_auth, install_packages, node_server
from chatbackend.dev.postgres import postgres
from chatbackend.dev.processes import free_port
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.environment import (
    BETTER_AUTH_PORT,
    BETTER_AUTH_SECRET,
    BETTER_AUTH_URL,
    process_environment,
)
from tests.fixtures.programs import missing_line
from tests.fixtures.run_order import SLOWEST_FIRST
from tests.fixtures.servers.api import Api
from tests.fixtures.servers.forkserver import uvicorn
from tests.fixtures.servers.redis import redis_server

pytest_plugins = [
    "tests.fixtures.oauth.better_auth",
    "tests.fixtures.assistant",
    "tests.fixtures.owner",
    "tests.fixtures.servers.tool_server",
]

LIGHT_PASSWORDS = {"NODE_OPTIONS": f"--import={(TEST_BETTER_AUTH / 'light_passwords.mjs').as_uri()}"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


def pytest_collection_finish() -> None:
    gc.freeze()  # imported modules are never garbage, so the collector need not look at them again


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if line := missing_line(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres"), throwaway=True) as url:
        yield url


@pytest.fixture(scope="session")
def every_connection() -> Iterator[WeakSet[Any]]:
    """All Django connections that any thread of this process has opened.

    Worker threads keep their connections from one test to the next. They are closed at the end of the run.
    """
    opened: WeakSet[Any] = WeakSet()

    def remember(connection: Any, **_: Any) -> None:
        opened.add(connection)

    connection_created.connect(remember)
    yield opened
    for each in opened:
        if each.connection is not None:
            each.connection.close()


@pytest.fixture(scope="session")
def django_db_setup(
    postgres_url: str, every_connection: WeakSet[Any], django_db_blocker: DjangoDbBlocker
) -> None:
    """Replace pytest-django's fixture: this server is new and temporary, so it needs no test database."""
    address = environ.Env.db_url_config(postgres_url)
    connections.settings["default"].update(address | {"ENGINE": "runtime.postgresql"})
    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0)
    TransactionTestCase._fixture_setup = classmethod(_empty_our_tables)
    TransactionTestCase._fixture_teardown = _empty_our_tables


def _empty_our_tables(_: Any) -> None:
    """Delete the rows of our tables before and after a test that commits.

    Before, because servers of earlier tests write into the same tables. After, in place of Django's flush: it
    truncates every table and creates all permissions again, which takes a tenth of a second.
    """
    kept = (ContentType, Permission)  # migrate created these rows
    ours = [each for each in apps.get_models(include_auto_created=True) if each._meta.managed]
    delete = "; ".join(f'DELETE FROM "{each._meta.db_table}"' for each in ours if each not in kept)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(delete)


@pytest.fixture(scope="session")
def database_url(postgres_url: str, django_db_setup: None) -> str:
    """The database of the tests, migrated by Django. Better Auth adds its tables when ``auth`` starts."""
    return postgres_url


@pytest.fixture(scope="session")
def start_better_auth(database_url: str) -> Callable[..., Any]:
    """Start the frontend's Better Auth. ``env``: variables of frontend/config.mjs.

    It uses the tests' database unless ``DATABASE_URL`` names another.
    """
    install_packages(FRONTEND)

    @contextmanager
    def start(port: int | None = None, **env: str) -> Iterator[BetterAuth]:
        known = {"BETTER_AUTH_SECRET": BETTER_AUTH_SECRET, "DATABASE_URL": database_url} | LIGHT_PASSWORDS
        with better_auth(known | env, port) as origin, closing(BetterAuth(origin)) as running:
            yield running

    return start


@pytest.fixture(scope="session")
def start_other_better_auth() -> Callable[..., Any]:
    """Start a Better Auth with other options. ``env``: variables of tests/better_auth/server.mjs."""
    install_packages(TEST_BETTER_AUTH)

    @contextmanager
    def start(**env: str) -> Iterator[BetterAuth]:
        port = free_port()
        running = BetterAuth(f"http://localhost:{port}")
        own = {"PORT": str(port), "BETTER_AUTH_URL": running.origin, "BETTER_AUTH_SECRET": BETTER_AUTH_SECRET}
        whole = os.environ | LIGHT_PASSWORDS | own | env
        with node_server("better-auth", TEST_BETTER_AUTH, whole, port, show=False), closing(running):
            yield running

    return start


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def auth(start_better_auth: Callable[..., Any]) -> Iterator[BetterAuth]:
    """The frontend's Better Auth, running."""
    with start_better_auth(
        BETTER_AUTH_PORT,
        BETTER_AUTH_URL=BETTER_AUTH_URL,
        BETTER_AUTH_CHANGE_EMAIL="1",
        BETTER_AUTH_DELETE_USER="1",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def start_api(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Callable[..., Any]:
    """Start our server in its own process, with production settings. ``env`` overrides them."""

    @contextmanager
    def start(
        application: str = "tests.fixtures.chatkit.without_pauses:application",
        port: int | None = None,
        **env: str,
    ) -> Iterator[Api]:
        port, log = port or free_port(), tmp_path_factory.mktemp("api") / "log"
        options = ["--port", str(port), "--ws", "none", "--no-access-log", "--timeout-graceful-shutdown", "2"]
        known = {"DATABASE_URL": database_url, "PUBLIC_URL": f"http://localhost:{port}"}
        try:
            # The log has production's format, JSON. Tests read this file.
            with uvicorn([application, *options], process_environment(**known | env), port, log):
                yield Api(f"http://localhost:{port}", log)
        except Exception:
            print(log.read_text())
            raise

    return start


@pytest.fixture(scope="session")
def api(auth: BetterAuth, start_api: Callable[..., Any]) -> Iterator[Api]:
    """Our server, running on the tests' database."""
    with start_api(SUPPORT_RATE_PER_USER="100000/min") as running:
        yield running


@pytest.fixture
def person(auth: BetterAuth) -> Person:
    """A new user of ``auth``, signed in."""
    return auth.sign_up()


@pytest.fixture
def other_person(auth: BetterAuth) -> Person:
    return auth.sign_up()


@pytest.fixture
def signer(auth: BetterAuth, db: None) -> Signer:
    """Signs JWTs with a key that is in Better Auth's table of keys."""
    return Signer.in_jwks_table()


@pytest.fixture(autouse=True)
def _clear_caches() -> Iterator[None]:
    """The caches of keys and throttles live as long as the process. No test may see those of another."""
    keys.clear_cache()
    throttling.clear()
    refused_attempts.clear()
    cache.clear()
    yield
    keys.clear_cache()
