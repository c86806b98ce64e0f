"""How the project starts: its migrations, the ASGI application, runserver and management commands."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import TOP, free_port
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import process_environment
from tests.fixtures.servers.api import Api, create, http
from tests.fixtures.servers.forkserver import manage, python, runserver

# --- migrate --------------------------------------------------------------------------------------

COLUMNS = """
    SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns
    WHERE table_name IN ('user', 'session', 'account', 'verification', 'jwks') ORDER BY 1, 2
"""


def test_migrate_creates_our_tables_and_changes_none_of_better_auths(
    postgres_url: str, start_better_auth: Callable[..., Any]
) -> None:
    url = create_database(postgres_url, "to_be_migrated")
    with start_better_auth(DATABASE_URL=url) as auth, psycopg.connect(url) as database:
        before = database.execute(COLUMNS).fetchall()
        database.commit()

        migrated = manage("migrate", DATABASE_URL=url)

        assert migrated.returncode == 0, migrated.stderr
        assert before
        assert database.execute(COLUMNS).fetchall() == before
        assert database.execute("SELECT to_regclass('support_thread')").fetchone() != (None,)
        # Better Auth compares the schema with its own, and refuses every request if they differ.
        assert auth.sign_up().token()


@pytest.mark.django_db
def test_migrate_refuses_better_auths_own_database(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BETTER_AUTH_DATABASE = "better_auth"
    own = connections["default"].copy("better_auth")
    monkeypatch.setitem(connections.settings, "better_auth", own.settings_dict)

    with pytest.raises(CommandError, match="Better Auth"):
        call_command("migrate", database="better_auth", verbosity=0)

    call_command("migrate", verbosity=0)  # the default database can still be migrated


# --- The ASGI application -------------------------------------------------------------------------


def test_an_asgi_server_does_not_start_with_wrong_settings_and_shows_all_hints() -> None:
    wrong = {"BETTER_AUTH_URL": "auth.example.com", "CHATKIT_SERVER": "no.such.Server"}

    done = python("import chatbackend.asgi", **wrong)

    assert done.returncode != 0
    for check_id, setting in [("authn.E001", "BETTER_AUTH_URL"), ("support.E001", "CHATKIT_SERVER")]:
        assert check_id in done.stderr
        assert setting in done.stderr


def test_the_application_can_be_imported_in_a_running_event_loop(auth: Any, database_url: str) -> None:
    """uvicorn imports it so when it runs several workers."""
    program = "import asyncio\nasync def start(): import chatbackend.asgi\nasyncio.run(start())"

    done = python(program, DATABASE_URL=database_url)

    assert done.returncode == 0, done.stderr


def test_runserver_serves_asgi_streams_and_a_way_to_the_documentation(
    database_url: str, person: Person, tmp_path: Path
) -> None:
    port, env = free_port(), process_environment(DATABASE_URL=database_url, DEBUG="True")

    with runserver(env, port, tmp_path / "log"):
        running = Api(f"http://localhost:{port}", tmp_path / "log")
        root = http.get(f"{running.origin}/", follow_redirects=False)
        with running.stream(create(), person.token()) as events:
            types = [event["type"] for _, event in events]

    assert types.count("thread.item.updated") > 10
    assert (root.status_code, root.headers["Location"]) == (302, "/docs")


# --- Management commands --------------------------------------------------------------------------


def test_a_management_command_imports_no_agents_sdk() -> None:
    program = (
        "import sys, django; django.setup(); from django.core.management import call_command;"
        " call_command('check');"
        " print({'agents', 'openai', 'mcp'} & set(sys.modules))"
    )
    env = process_environment(DATABASE_URL="postgresql://localhost/chat")

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOP, env=env, capture_output=True, text=True, timeout=180
    )

    assert done.stdout.endswith("set()\n"), done.stderr
