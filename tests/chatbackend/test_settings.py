"""The house as a whole: how it starts, what it migrates, what a browser on another origin may do."""

import re
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.views.debug import SafeExceptionReporterFilter

from chatbackend.checks import check_settings
from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import free_port
from chatbackend.environment import flag, from_json, mapping, names, number
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import PAGE_ORIGIN, process_environment
from tests.fixtures.servers.api import Api, create, http, operation
from tests.fixtures.servers.forkserver import manage, python, runserver

TOP = Path(__file__).parents[2]

COLUMNS = """
    SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns
    WHERE table_name IN ('user', 'session', 'account', 'verification', 'jwks') ORDER BY 1, 2
"""


def starting(program: str = "import chatbackend.asgi", **env: str) -> subprocess.CompletedProcess[str]:
    """What an ASGI server does first: it imports the application."""
    return python(program, **env)


def test_migrate_makes_our_tables_and_touches_none_of_better_auths(
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
        # Better Auth checks the live schema itself, and refuses every request when it does not like it.
        assert auth.sign_up().token()


def test_an_asgi_server_does_not_start_with_a_wrong_setting_and_says_what_to_write() -> None:
    wrong = {"BETTER_AUTH_URL": "auth.example.com", "CHATKIT_SERVER": "no.such.Server"}

    done = starting(**wrong)

    assert done.returncode != 0
    assert "Write Better Auth's own baseURL" in done.stderr
    assert "Write the dotted path" in done.stderr


def test_it_starts_in_a_running_event_loop_as_with_several_workers_of_uvicorn(
    auth: Any, database_url: str
) -> None:
    program = "import asyncio\nasync def start(): import chatbackend.asgi\nasyncio.run(start())"

    done = starting(program, DATABASE_URL=database_url)

    assert done.returncode == 0, done.stderr


def test_a_management_command_waits_neither_for_the_agent_stack_nor_for_the_documentations() -> None:
    program = (
        "import sys, django; django.setup(); from django.core.management import call_command;"
        " call_command('check');"
        " print({'agents', 'openai', 'mcp', 'drf_spectacular.openapi'} & set(sys.modules))"
    )
    env = process_environment(DATABASE_URL="postgresql://localhost/chat")

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOP, env=env, capture_output=True, text=True, timeout=180
    )

    assert done.stdout.endswith("set()\n"), done.stderr


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("SECRET_KEY", "", "chatbackend.E001"),
        ("ALLOWED_HOSTS", [], "chatbackend.E002"),
        ("ALLOWED_HOSTS", ["https://api.example.com"], "chatbackend.E013"),
        ("ALLOWED_HOSTS", ["api.example.com", "api.example.com:8000"], "chatbackend.E013"),
        ("ALLOWED_HOSTS", ["*.example.com"], "chatbackend.E013"),
        ("ALLOWED_HOSTS", ["api.example.com/"], "chatbackend.E013"),
        ("DATABASES", {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}}, "chatbackend.E003"),
        ("DATABASES", {"default": {}}, "chatbackend.E003"),
        ("WORKER_THREADS", 0, "chatbackend.E004"),
        ("WORKER_THREADS", -1, "chatbackend.E004"),
        ("DATA_UPLOAD_MAX_MEMORY_SIZE", 0, "chatbackend.E005"),
        ("CORS_ALLOW_HEADERS", ["*"], "chatbackend.E015"),
        ("CORS_ALLOW_HEADERS", ["x-tenant x-team"], "chatbackend.E015"),
        ("CORS_ALLOW_HEADERS", ["X-Tenant: shop"], "chatbackend.E015"),
        ("CORS_ALLOW_HEADERS", ["x-tenänt"], "chatbackend.E015"),
        ("DATABASE_TIMEOUT_SECONDS", 1.9, "chatbackend.E012"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_would_fail_later_is_found_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, fault: str
) -> None:
    monkeypatch.setattr(settings, name, value)

    assert [message.id for message in check_settings()] == [fault]


def test_good_settings_are_silent_and_the_smallest_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_settings() == []

    for name, smallest in [("WORKER_THREADS", 1), ("DATA_UPLOAD_MAX_MEMORY_SIZE", 1)]:
        monkeypatch.setattr(settings, name, smallest)
    monkeypatch.setattr(settings, "DATABASE_TIMEOUT_SECONDS", 2.0)
    assert check_settings() == []


@pytest.mark.parametrize(
    "host", ["*", "api.example.com", ".Example.com", "192.0.2.1", "[2001:db8::1]", "chat"]
)
def test_each_way_to_write_a_host_is_silent(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", [host])

    assert check_settings() == []


@pytest.mark.parametrize(
    "text",
    ["a.example.com,b.example.com", " a.example.com , b.example.com\n", "a.example.com,,b.example.com,"],
)
def test_a_list_may_be_spaced_as_one_likes(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", text)

    assert names("ALLOWED_HOSTS", []) == ["a.example.com", "b.example.com"]
    assert names("ALLOWED_PAGES", ["chat.example.com"]) == ["chat.example.com"]


@pytest.mark.parametrize("value", ["1h", "1e3x", "", "ten", "1,5", "inf", "nan"])
def test_a_number_that_is_none_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BETTER_AUTH_LEEWAY_SECONDS", value)

    with pytest.raises(ImproperlyConfigured, match="BETTER_AUTH_LEEWAY_SECONDS should be a number"):
        number("BETTER_AUTH_LEEWAY_SECONDS", 10.0)


@pytest.mark.parametrize("value", ["Ture", "", "enabled", "2"])
def test_a_flag_that_is_neither_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", value)

    with pytest.raises(ImproperlyConfigured, match="BETTER_AUTH_BEARER_REQUIRE_SIGNATURE should be True or"):
        flag("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", True)


def test_every_flag_is_read_so() -> None:
    assert "env.bool(" not in (TOP / "chatbackend/settings.py").read_text()


def test_names_without_their_values_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_TABLES", "users")

    with pytest.raises(ImproperlyConfigured, match="BETTER_AUTH_TABLES should be name=value"):
        mapping("BETTER_AUTH_TABLES")


def test_json_that_is_none_names_its_variable_and_hides_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPORT_MCP_SERVERS", '[{"name": "todo", "secret": "do-not-tell"')

    with pytest.raises(ImproperlyConfigured, match="SUPPORT_MCP_SERVERS should be JSON") as caught:
        from_json("SUPPORT_MCP_SERVERS", "[]")

    assert "do-not-tell" not in "".join(traceback.format_exception(caught.value))


def test_an_error_report_hides_the_secrets_of_the_tool_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPORT_MCP_SERVERS", '[{"name": "todo", "secret": "do-not-tell"}]')
    monkeypatch.setattr(settings, "SUPPORT_MCP_SERVERS", from_json("SUPPORT_MCP_SERVERS", "[]"))

    assert "do-not-tell" not in str(SafeExceptionReporterFilter().get_safe_settings())


def test_options_of_a_storage_that_are_no_json_are_named_and_not_shown() -> None:
    done = manage("check", ATTACHMENT_STORAGE="a.b", ATTACHMENT_STORAGE_OPTIONS="{secret_key: 's3cret'}")

    assert done.returncode != 0
    assert "ATTACHMENT_STORAGE_OPTIONS should be JSON" in done.stderr
    assert "s3cret" not in done.stderr


def test_runserver_serves_asgi_and_streams(database_url: str, person: Person, tmp_path: Path) -> None:
    port, env = free_port(), process_environment(DATABASE_URL=database_url, DEBUG="True")

    with runserver(env, port, tmp_path / "log"):
        running = Api(f"http://localhost:{port}", tmp_path / "log")
        with running.stream(create(), person.token()) as events:
            kinds = [event["type"] for _, event in events]

    assert kinds.count("thread.item.updated") > 10


def test_the_page_on_another_origin_may_call_the_api_with_the_headers_chatkits_client_sends(
    api: Api, person: Person
) -> None:
    of_chatkit = ["chatkit-frame-instance-id", "chatkit-device-id"]
    of_tracing = ["traceparent", "tracestate", "baggage", "sentry-trace"]
    sent = ", ".join(["authorization", "content-type", "accept-language", *of_chatkit, *of_tracing])
    asked = {
        "Origin": PAGE_ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": sent,
    }

    preflight = http.options(api.url, headers=asked)
    response = api.post(operation("threads.list"), person.token(), Origin=PAGE_ORIGIN)
    refusal = api.post(operation("threads.list"), Origin=PAGE_ORIGIN)

    assert preflight.status_code == 200
    allowed = preflight.headers["Access-Control-Allow-Headers"].split(", ")
    assert set(sent.split(", ")) <= set(allowed)
    for answer in (preflight, response, refusal):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "x-request-id" in response.headers["Access-Control-Expose-Headers"]


def test_a_team_adds_headers_of_its_own_to_ours(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORS_ALLOW_HEADERS", "X-Tenant, x-datadog-trace-id")
    settings.CORS_ALLOW_HEADERS = runpy.run_path(str(TOP / "chatbackend/settings.py"))["CORS_ALLOW_HEADERS"]

    preflight = client.options(
        "/support/chatkit", headers={"Origin": PAGE_ORIGIN, "Access-Control-Request-Method": "POST"}
    )

    allowed = preflight.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"X-Tenant", "x-datadog-trace-id", "authorization", "traceparent"} <= set(allowed)
    assert check_settings() == []


def test_a_page_of_somebody_else_may_not(api: Api, person: Person) -> None:
    response = api.post(operation("threads.list"), person.token(), Origin="https://evil.example")

    assert "Access-Control-Allow-Origin" not in response.headers


def test_the_admins_files_are_served_without_collecting_them(api: Api) -> None:
    answer = http.get(f"{api.origin}/static/admin/css/base.css")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, 'text/css; charset="utf-8"')


def test_imports_point_one_way() -> None:
    def named_in(app: str) -> set[str]:
        """The packages of ours that it imports, or names by a dotted path."""
        text = "".join(path.read_text() for path in (TOP / app).rglob("*.py"))
        found = re.findall(r"(?:import|from) (authn|support|chatbackend)\b|\b(chatbackend)\.", text)
        return {name for pair in found for name in pair if name}

    assert named_in("authn") == {"authn"}
    assert named_in("support") == {"authn", "support"}
