"""Each setting that is wrong stops the start under an id of its own; a right one is silent."""

import sys
from typing import Any

import pytest
from chatkit.server import ChatKitServer
from django.core.checks import run_checks

from support.checks import check_settings
from support.server import SupportServer

GOOD: list[dict[str, Any]] = [
    {},
    {"CHATKIT_SERVER": "support.server.SupportServer", "CHATKIT_CONTEXT": "support.context.build"},
    {"CHATKIT_SERVER": f"{__name__}.a_factory"},
    {"CHATKIT_SERVER": f"{__name__}.AN_INSTANCE"},
    {"SUPPORT_RATE_PER_USER": "1/s"},
    {"SUPPORT_RATE_PER_USER": "1000/day"},
    {"SUPPORT_MODEL": "gpt", "OPENAI_API_KEY": "key"},
    {"SUPPORT_MODEL": "llama", "OPENAI_BASE_URL": "http://localhost:11434/v1"},
    {"SUPPORT_MODEL": "llama", "OPENAI_BASE_URL": "https://models.example.com", "OPENAI_API_KEY": "key"},
    {"SUPPORT_MODEL_API": "chat_completions"},
    {"SUPPORT_INSTRUCTIONS_FILE": "README.md"},
    {"SUPPORT_MCP_SERVERS": [{"name": "todo", "url": "http://localhost:8080/mcp", "secret": "s" * 32}]},
    {"SUPPORT_MCP_SERVERS": [{"name": "docs", "url": "http://docs.example.com/mcp"}]},
]

TODO = {"name": "todo", "url": "https://todo.example.com/mcp", "secret": "s" * 32}

AN_INSTANCE = SupportServer()
NOTHING = None


def a_factory() -> ChatKitServer[Any]:
    return AN_INSTANCE


def faults() -> list[tuple[str | None, int]]:
    return [(message.id, message.level) for message in check_settings()]


@pytest.mark.parametrize("changes", GOOD)
def test_a_good_configuration_is_silent(settings: Any, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "check_id", "level"),
    [
        ({"CHATKIT_SERVER": "shop.chat.ShopServer"}, "support.E001", 40),
        ({"CHATKIT_SERVER": "support.server.ShopServer"}, "support.E001", 40),
        ({"CHATKIT_SERVER": "SupportServer"}, "support.E001", 40),
        ({"CHATKIT_SERVER": ""}, "support.E001", 40),
        ({"CHATKIT_SERVER": "support.server"}, "support.E001", 40),
        ({"CHATKIT_SERVER": f"{__name__}.NOTHING"}, "support.E001", 40),
        ({"CHATKIT_CONTEXT": "shop.chat.build"}, "support.E002", 40),
        ({"CHATKIT_CONTEXT": ""}, "support.E002", 40),
        ({"CHATKIT_CONTEXT": "support.context"}, "support.E002", 40),
        ({"SUPPORT_RATE_PER_USER": ""}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120/"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "many/min"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "0/min"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "-1/min"}, "support.E003", 40),
        ({"SUPPORT_RATE_PER_USER": "120/fortnight"}, "support.E003", 40),
        ({"SUPPORT_MODEL": "gpt"}, "support.E004", 40),
        ({"SUPPORT_MODEL": "gpt", "OPENAI_BASE_URL": "localhost:11434/v1"}, "support.E005", 40),
        ({"SUPPORT_MODEL": "gpt", "OPENAI_BASE_URL": "http://"}, "support.E005", 40),
        ({"SUPPORT_MODEL": "gpt", "OPENAI_BASE_URL": "http://[::1"}, "support.E005", 40),
        ({"SUPPORT_TRANSCRIPTION_MODEL": "whisper"}, "support.E004", 40),
        ({"SUPPORT_MODEL_API": "completions"}, "support.E006", 40),
        ({"SUPPORT_MODEL_API": ""}, "support.E006", 40),
        ({"SUPPORT_INSTRUCTIONS_FILE": "no/such.txt"}, "support.E007", 40),
        ({"SUPPORT_INSTRUCTIONS_FILE": "tests"}, "support.E007", 40),
        ({"SUPPORT_INSTRUCTIONS_FILE": "tests/__init__.py"}, "support.E007", 40),  # empty
        ({"SUPPORT_INSTRUCTIONS_FILE": sys.executable}, "support.E007", 40),  # no text
        ({"SUPPORT_INSTRUCTIONS_FILE": "README.md", "SUPPORT_INSTRUCTIONS": "Hi"}, "support.E007", 40),
        ({"SUPPORT_MCP_SERVERS": {}}, "support.E008", 40),
        ({"SUPPORT_MCP_SERVERS": [{"name": "todo"}]}, "support.E008", 40),
        ({"SUPPORT_MCP_SERVERS": [TODO | {"url": "http://todo.example.com"}]}, "support.W002", 30),
        ({"OPENAI_API_KEY": "key"}, "support.W001", 30),
    ],
)
def test_a_wrong_setting_has_an_id_of_its_own_and_a_hint(
    settings: Any, changes: dict[str, Any], check_id: str, level: int
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)

    assert faults() == [(check_id, level)]
    (message,) = check_settings()
    assert next(iter(changes)) in message.msg or "OPENAI_BASE_URL" in message.msg
    assert message.hint


def test_no_message_shows_the_key(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-secret"
    settings.OPENAI_BASE_URL = "sk-secret"

    assert check_settings()
    assert "sk-secret" not in str(check_settings())


def test_the_checks_are_part_of_djangos(settings: Any) -> None:
    settings.CHATKIT_SERVER = "shop.chat.ShopServer"

    assert "support.E001" in [message.id for message in run_checks()]
