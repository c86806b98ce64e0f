"""System checks: each wrong setting has its own id, and a good configuration has no messages."""

import sys
from pathlib import Path
from typing import Any

import pytest
from chatkit.server import ChatKitServer
from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.checks import run_checks
from django.db import connections

from support import media_types
from support.checks import check_deployment, check_settings, project
from support.server import SupportServer

GOOD: list[dict[str, Any]] = [
    {},
    {"CHATKIT_SERVER": "support.server.SupportServer", "CHATKIT_CONTEXT": "support.context.build"},
    {"CHATKIT_SERVER": f"{__name__}.a_factory"},
    {"CHATKIT_SERVER": f"{__name__}.AN_INSTANCE"},
    {"SUPPORT_RATE_PER_USER": "1/s"},
    {"SUPPORT_RATE_PER_USER": "1000/day"},
    {"SUPPORT_MODEL": "gpt", "OPENAI_API_KEY": "key"},
    {"SUPPORT_MODEL": "gpt", "SUPPORT_MODELS": ["gpt", "gpt-mini"], "OPENAI_API_KEY": "key"},
    {"PUBLIC_URL": ""},
    {"PUBLIC_URL": "http://localhost:8000"},
    {"PUBLIC_URL": "https://example.com/api/", "ALLOWED_HOSTS": ["*"]},
    {"ATTACHMENT_TYPES": ["text/csv", "text/markdown"], "ATTACHMENT_MAX_BYTES": 1},
    {"SUPPORT_MODEL": "llama", "OPENAI_BASE_URL": "http://localhost:11434/v1"},
    {"SUPPORT_MODEL": "llama", "OPENAI_BASE_URL": "https://models.example.com", "OPENAI_API_KEY": "key"},
    {"SUPPORT_MODEL_API": "chat_completions"},
    {"SUPPORT_INSTRUCTIONS_FILE": "README.md"},
    {"SUPPORT_MCP_SERVERS": [{"name": "todo", "url": "http://localhost:8080/mcp", "secret": "s" * 32}]},
    {"SUPPORT_MCP_SERVERS": [{"name": "docs", "url": "http://docs.example.com/mcp"}]},
    {"SUPPORT_STREAMS_PER_USER": 1, "SUPPORT_MESSAGE_LENGTH": 1, "ATTACHMENT_ADDRESS_SECONDS": 2},
    {"ATTACHMENT_TYPES": [*media_types.SUPPORTED], "ATTACHMENT_MAX_BYTES": 7, "ATTACHMENT_BYTES_PER_USER": 7},
]

TODO = {"name": "todo", "url": "https://todo.example.com/mcp", "secret": "s" * 32}

FILES = "django.core.files.storage.FileSystemStorage"
AN_INSTANCE = SupportServer()
NOTHING = None


def a_factory() -> ChatKitServer[Any]:
    return AN_INSTANCE


def faults() -> list[tuple[str | None, int]]:
    return [(message.id, message.level) for message in check_settings()]


@pytest.mark.parametrize("changes", GOOD)
def test_a_good_configuration_has_no_messages(settings: Any, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "check_id", "level"),
    [
        ({"CHATKIT_SERVER": "nowhere.chat.ShopServer"}, "support.E001", 40),
        ({"CHATKIT_SERVER": "support.server.ShopServer"}, "support.E001", 40),
        ({"CHATKIT_SERVER": "SupportServer"}, "support.E001", 40),
        ({"CHATKIT_SERVER": ""}, "support.E001", 40),
        ({"CHATKIT_SERVER": "support.server"}, "support.E001", 40),
        ({"CHATKIT_SERVER": f"{__name__}.NOTHING"}, "support.E001", 40),
        ({"CHATKIT_CONTEXT": "nowhere.chat.build"}, "support.E002", 40),
        ({"CHATKIT_CONTEXT": ""}, "support.E002", 40),
        ({"CHATKIT_CONTEXT": "support.context"}, "support.E002", 40),
        ({"SUPPORT_RATE_PER_USER": ""}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120/"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "many/min"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "0/min"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "-1/min"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120/fortnight"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120/month"}, "support.E003", 40),
        ({"SUPPORT_MODEL": "gpt"}, "support.E004", 40),
        ({"SUPPORT_MODEL": "gpt", "OPENAI_BASE_URL": "localhost:11434/v1"}, "support.E005", 40),
        ({"SUPPORT_MODEL": "gpt", "OPENAI_BASE_URL": "http://"}, "support.E005", 40),
        ({"SUPPORT_MODEL": "gpt", "OPENAI_BASE_URL": "http://[::1"}, "support.E005", 40),
        ({"SUPPORT_TRANSCRIPTION_MODEL": "whisper"}, "support.E004", 40),
        ({"SUPPORT_MODELS": ["gpt-mini"]}, "support.E010", 40),
        ({"SUPPORT_MODEL_API": "completions"}, "support.E006", 40),
        ({"SUPPORT_MODEL_API": ""}, "support.E006", 40),
        ({"SUPPORT_INSTRUCTIONS_FILE": "no/such.txt"}, "support.E007", 40),
        ({"SUPPORT_INSTRUCTIONS_FILE": "tests"}, "support.E007", 40),
        ({"SUPPORT_INSTRUCTIONS_FILE": "tests/__init__.py"}, "support.E007", 40),  # empty
        ({"SUPPORT_INSTRUCTIONS_FILE": sys.executable}, "support.E007", 40),  # not a text
        ({"SUPPORT_INSTRUCTIONS_FILE": "README.md", "SUPPORT_INSTRUCTIONS": "Hi"}, "support.E007", 40),
        ({"SUPPORT_MCP_SERVERS": {}}, "support.E008", 40),
        ({"SUPPORT_MCP_SERVERS": [{"name": "todo"}]}, "support.E008", 40),
        ({"SUPPORT_MCP_SERVERS": [TODO | {"url": "http://todo.example.com"}]}, "support.W002", 30),
        ({"OPENAI_API_KEY": "key"}, "support.W001", 30),
        ({"PUBLIC_URL": "api.example.com"}, "support.E101", 40),
        ({"PUBLIC_URL": "ftp://api.example.com"}, "support.E101", 40),
        ({"PUBLIC_URL": "https://"}, "support.E101", 40),
        ({"PUBLIC_URL": "https://[::1"}, "support.E101", 40),
        ({"PUBLIC_URL": "https://api.example.com/?a=b"}, "support.E101", 40),
        ({"PUBLIC_URL": "https://ada@api.example.com"}, "support.E101", 40),
        ({"PUBLIC_URL": "", "ALLOWED_HOSTS": ["*"]}, "support.E101", 40),
        ({"ATTACHMENT_TYPES": []}, "support.E102", 40),
        ({"ATTACHMENT_TYPES": ["image/png", "image/svg+xml"]}, "support.E102", 40),
        ({"ATTACHMENT_MAX_BYTES": 0}, "support.E103", 40),
        ({"ATTACHMENT_ADDRESS_SECONDS": 1}, "support.E104", 40),
        ({"ATTACHMENT_BYTES_PER_USER": 9_999_999}, "support.E107", 40),
        ({"ATTACHMENT_BYTES_PER_USER": -1}, "support.E107", 40),
        ({"SUPPORT_CONVERSATIONS": "organization"}, "support.E025", 40),
        ({"SUPPORT_CONVERSATIONS": "user_and_organization"}, "support.E026", 40),
        ({"SUPPORT_STREAMS_PER_USER": 0}, "support.E009", 40),
        ({"SUPPORT_MESSAGE_LENGTH": -1}, "support.E009", 40),
        ({"MEDIA_ROOT": "uploads", "ATTACHMENT_DIRECTORY": "uploads/chat"}, "support.E108", 40),
        ({"STATIC_ROOT": "static", "ATTACHMENT_DIRECTORY": "static"}, "support.E108", 40),
        (
            {"STATICFILES_DIRS": ["a", ("x", "assets")], "ATTACHMENT_DIRECTORY": "assets/x"},
            "support.E108",
            40,
        ),
        ({"ASGI_APPLICATION": ""}, "support.E013", 40),
        ({"TIME_ZONE": "Europe/Berlin"}, "support.W003", 30),
        ({"MIDDLEWARE": ["no.such.Middleware"]}, "support.W004", 30),
        ({"CORS_ALLOW_HEADERS": ["authorization", "content-type"]}, "support.W005", 30),
    ],
)
def test_a_wrong_setting_has_its_own_id_and_a_hint(
    settings: Any, changes: dict[str, Any], check_id: str, level: int
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    assert faults() == [(check_id, level)]
    (message,) = check_settings()
    assert next(iter(changes)) in message.msg or "OPENAI_BASE_URL" in message.msg or "CORS" in message.msg
    assert message.hint


STORAGES = [
    ({"BACKEND": "shop.storage.Nowhere"}, "support.E105"),
    ({"BACKEND": FILES, "OPTIONS": {"bucket_name": "chat"}}, "support.E105"),
    ({"BACKEND": FILES, "OPTIONS": {"location": f"{__file__}/attachments"}}, "support.E106"),
    ({"BACKEND": FILES, "OPTIONS": {"location": __file__}}, "support.E106"),
]


@pytest.mark.parametrize(("storage", "check_id"), STORAGES)
def test_a_storage_that_cannot_work_is_an_error(
    settings: Any, storage: dict[str, Any], check_id: str
) -> None:
    settings.STORAGES = settings.STORAGES | {"attachments": storage}

    assert faults() == [(check_id, 40)]


def test_the_checks_do_not_create_the_directory_of_attachments(settings: Any, tmp_path: Path) -> None:
    storage = {"BACKEND": FILES, "OPTIONS": {"location": str(tmp_path / "not" / "yet")}}
    settings.STORAGES = settings.STORAGES | {"attachments": storage}

    assert faults() == []
    assert list(tmp_path.iterdir()) == []


# --- The project that the app is installed in -----------------------------------------------------


class ElsewhereRouter:
    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "elsewhere"


class OurCorsMiddleware(CorsMiddleware):
    pass


def test_a_database_that_is_not_postgresql_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")

    assert faults() == [("support.E012", 40)]


def test_conversations_in_another_database_than_the_default_are_an_error(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.ElsewhereRouter"]

    assert faults() == [("support.E011", 40)]


def test_a_runserver_that_serves_wsgi_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "get_commands", lambda: {"runserver": "django.contrib.staticfiles"})

    assert faults() == [("support.E014", 40)]


def test_a_subclass_of_the_cors_middleware_counts(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.OurCorsMiddleware"]

    assert faults() == []


def test_a_deployment_without_a_time_limit_for_statements_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_warned(engine: str) -> bool:
        monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", engine)
        return "support.W006" in [message.id for message in check_deployment()]

    assert is_warned("django.db.backends.postgresql")
    assert not is_warned("runtime.postgresql")


def test_a_good_chatkit_server_does_not_hide_a_wrong_context(settings: Any) -> None:
    settings.CHATKIT_SERVER, settings.CHATKIT_CONTEXT = f"{__name__}.a_factory", "nowhere.chat.context"

    assert faults() == [("support.E002", 40)]


@pytest.mark.parametrize(("url", "mentions_hosts"), [("api.example.com", False), ("", True)])
def test_a_wrong_public_url_and_a_missing_one_get_different_messages(
    settings: Any, url: str, mentions_hosts: bool
) -> None:
    settings.PUBLIC_URL, settings.ALLOWED_HOSTS = url, ["*"]

    (message,) = check_settings()

    assert ("ALLOWED_HOSTS" in message.msg) == mentions_hosts


@pytest.mark.parametrize(("url", "is_warned"), [("", True), ("https://api.example.com", False)])
def test_a_deployment_without_a_public_url_is_warned(settings: Any, url: str, is_warned: bool) -> None:
    settings.PUBLIC_URL = url

    deployed = [message.id for message in run_checks(include_deployment_checks=True)]
    assert ("support.W101" in deployed) == is_warned
    assert "support.W101" not in [message.id for message in run_checks()]


def test_no_message_contains_the_api_key(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-secret"
    settings.OPENAI_BASE_URL = "sk-secret"

    assert check_settings()
    assert "sk-secret" not in str(check_settings())


def test_the_checks_are_registered(settings: Any) -> None:
    settings.CHATKIT_SERVER = "nowhere.chat.ShopServer"

    assert "support.E001" in [message.id for message in run_checks()]
