"""The project's settings: the system checks, the reading of variables, CORS and static files."""

import runpy
import traceback
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.views.debug import SafeExceptionReporterFilter

from chatbackend.checks import check_settings
from chatbackend.dev.processes import TOP
from chatbackend.environment import flag, from_json, mapping, names, number
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import PAGE_ORIGIN
from tests.fixtures.servers.api import Api, http, operation
from tests.fixtures.servers.forkserver import manage

# --- System checks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("SECRET_KEY", "", "chatbackend.E001"),
        ("ALLOWED_HOSTS", [], "chatbackend.E002"),
        ("ALLOWED_HOSTS", ["https://api.example.com"], "chatbackend.E013"),
        ("ALLOWED_HOSTS", ["api.example.com", "api.example.com:8000"], "chatbackend.E013"),
        ("ALLOWED_HOSTS", ["*.example.com"], "chatbackend.E013"),
        ("ALLOWED_HOSTS", ["api.example.com/"], "chatbackend.E013"),
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
def test_a_wrong_setting_is_reported_by_its_check(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, fault: str
) -> None:
    monkeypatch.setattr(settings, name, value)

    assert [message.id for message in check_settings()] == [fault]


def test_the_checks_accept_good_settings_and_the_smallest_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_settings() == []

    for name, smallest in [("WORKER_THREADS", 1), ("DATA_UPLOAD_MAX_MEMORY_SIZE", 1)]:
        monkeypatch.setattr(settings, name, smallest)
    monkeypatch.setattr(settings, "DATABASE_TIMEOUT_SECONDS", 2.0)
    assert check_settings() == []


@pytest.mark.parametrize(
    "host", ["*", "api.example.com", ".Example.com", "192.0.2.1", "[2001:db8::1]", "chat"]
)
def test_the_checks_accept_every_form_of_a_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", [host])

    assert check_settings() == []


# --- Variables of the environment -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["a.example.com,b.example.com", " a.example.com , b.example.com\n", "a.example.com,,b.example.com,"],
)
def test_a_list_may_have_spaces_and_empty_entries(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", text)

    assert names("ALLOWED_HOSTS", []) == ["a.example.com", "b.example.com"]
    assert names("ALLOWED_PAGES", ["chat.example.com"]) == ["chat.example.com"]


@pytest.mark.parametrize("value", ["1h", "1e3x", "", "ten", "1,5", "inf", "nan"])
def test_a_value_that_is_not_a_number_raises_an_error_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("BETTER_AUTH_LEEWAY_SECONDS", value)

    with pytest.raises(ImproperlyConfigured, match="BETTER_AUTH_LEEWAY_SECONDS"):
        number("BETTER_AUTH_LEEWAY_SECONDS", 10.0)


@pytest.mark.parametrize("value", ["Ture", "", "enabled", "2"])
def test_a_value_that_is_not_a_boolean_raises_an_error_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", value)

    with pytest.raises(ImproperlyConfigured, match="BETTER_AUTH_BEARER_REQUIRE_SIGNATURE"):
        flag("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", True)


def test_no_boolean_is_read_without_this_check() -> None:
    assert "env.bool(" not in (TOP / "chatbackend/settings.py").read_text()


def test_a_name_without_a_value_raises_an_error_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BETTER_AUTH_TABLES", "users")

    with pytest.raises(ImproperlyConfigured, match="BETTER_AUTH_TABLES"):
        mapping("BETTER_AUTH_TABLES")


def test_invalid_json_raises_an_error_with_the_variables_name_and_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SUPPORT_MCP_SERVERS", '[{"name": "todo", "secret": "do-not-tell"')

    with pytest.raises(ImproperlyConfigured, match="SUPPORT_MCP_SERVERS") as caught:
        from_json("SUPPORT_MCP_SERVERS", "[]")

    assert "do-not-tell" not in "".join(traceback.format_exception(caught.value))


def test_an_error_report_hides_the_secrets_of_tool_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPORT_MCP_SERVERS", '[{"name": "todo", "secret": "do-not-tell"}]')
    monkeypatch.setattr(settings, "SUPPORT_MCP_SERVERS", from_json("SUPPORT_MCP_SERVERS", "[]"))

    assert "do-not-tell" not in str(SafeExceptionReporterFilter().get_safe_settings())


def test_the_start_fails_on_invalid_storage_options_and_does_not_print_them() -> None:
    done = manage("check", ATTACHMENT_STORAGE="a.b", ATTACHMENT_STORAGE_OPTIONS="{secret_key: 's3cret'}")

    assert done.returncode != 0
    assert "ATTACHMENT_STORAGE_OPTIONS" in done.stderr
    assert "s3cret" not in done.stderr


# --- CORS and static files ------------------------------------------------------------------------


def test_an_allowed_origin_may_send_the_headers_of_chatkits_client(api: Api, person: Person) -> None:
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


def test_a_team_can_allow_more_request_headers(
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


def test_an_unknown_origin_gets_no_cors_headers(api: Api, person: Person) -> None:
    response = api.post(operation("threads.list"), person.token(), Origin="https://evil.example")

    assert "Access-Control-Allow-Origin" not in response.headers


def test_the_admins_static_files_are_served_without_collectstatic(api: Api) -> None:
    answer = http.get(f"{api.origin}/static/admin/css/base.css")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, 'text/css; charset="utf-8"')
