"""The metadata that leads a client from a 401 to Better Auth (RFC 9728), and the checks of the settings."""

from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.test import Client
from django.urls import include, path

from support.checks.mcp import check_mcp
from support.mcp import resource
from tests.fixtures.code_blocks import TOP

WELL_KNOWN = "/.well-known/oauth-protected-resource"

# A project whose endpoint is below another path, and one that has forgotten the metadata.
prefixed = [path("api/help/", include("support.urls")), path("", include("support.mcp.well_known"))]
without_metadata = [path("support/", include("support.urls"))]


class Prefixed:
    urlpatterns = prefixed


class WithoutMetadata:
    urlpatterns = without_metadata


def test_the_metadata_names_the_resource_its_scopes_and_better_auth() -> None:
    response = Client().get(f"{WELL_KNOWN}/support/mcp")

    assert response.status_code == 200
    document = response.json()
    assert document["resource"] == "https://api.example.com/support/mcp"
    assert document["scopes_supported"] == ["assistant:ask", "conversations:read", "todo:write"]
    assert document["bearer_methods_supported"] == ["header"]
    assert len(document["authorization_servers"]) == 1


@pytest.mark.parametrize("name", ["", "/", "/support", "/support/mcp/", "/support/mcq", "//support/mcp"])
def test_there_is_no_metadata_for_another_path(name: str) -> None:
    assert Client().get(WELL_KNOWN + name).status_code == 404


def test_every_page_may_read_the_metadata() -> None:
    headers = {"Origin": "https://evil.com"}
    read = Client().get(f"{WELL_KNOWN}/support/mcp", headers=headers)
    asked = headers | {"Access-Control-Request-Method": "GET"}
    preflight = Client().options(f"{WELL_KNOWN}/support/mcp", headers=asked)

    assert [each["Access-Control-Allow-Origin"] for each in (read, preflight)] == ["*", "*"]
    assert "mcp-protocol-version" in preflight["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in read
    assert Client().post(f"{WELL_KNOWN}/support/mcp").status_code == 405


def test_the_metadata_has_the_path_of_the_endpoint(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.SUPPORT_MCP_URL = Prefixed, ""
    settings.PUBLIC_URL = "https://shop.example.com/backend/"

    metadata = "https://shop.example.com/.well-known/oauth-protected-resource/backend/api/help/mcp"
    assert resource.url() == "https://shop.example.com/backend/api/help/mcp"
    assert resource.metadata_url() == metadata
    response = Client().get(metadata.removeprefix("https://shop.example.com"))
    assert response.json()["resource"] == resource.url()


def test_a_host_header_does_not_change_the_resource(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]

    response = Client(HTTP_HOST="evil.com").get(f"{WELL_KNOWN}/support/mcp")

    assert "evil.com" not in response.content.decode()


# --- Checks ---------------------------------------------------------------------------------------


def found(settings: Any, changes: dict[str, Any]) -> list[CheckMessage]:
    for name, value in changes.items():
        setattr(settings, name, value)
    return check_mcp()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"SUPPORT_MCP": False, "SUPPORT_MCP_URL": "nonsense"},
        {"SUPPORT_MCP_URL": ""},
        {"SUPPORT_MCP_URL": "http://localhost:8000/support/mcp"},
        {"SUPPORT_MCP_TOOLS": []},
    ],
)
def test_a_good_configuration_has_no_messages(settings: Any, changes: dict[str, Any]) -> None:
    assert found(settings, changes) == []


@pytest.mark.parametrize(
    ("changes", "check_id"),
    [
        ({"SUPPORT_MCP_URL": "", "PUBLIC_URL": ""}, "support.E016"),
        ({"SUPPORT_MCP_URL": "api.example.com/support/mcp"}, "support.E016"),
        ({"SUPPORT_MCP_URL": "https://api.example.com"}, "support.E016"),
        ({"SUPPORT_MCP_URL": "https://api.example.com/mcp?a=b"}, "support.E016"),
        ({"SUPPORT_MCP_URL": "https://api.example.com/mcp#a"}, "support.E016"),
        ({"BETTER_AUTH_PLUGINS": ["admin"]}, "support.E019"),
        ({"SUPPORT_MCP_TOOLS": ["delete_everything"]}, "support.E018"),
        ({"SUPPORT_TOOLS": [f"{__name__}.list_conversations"]}, "support.E018"),
        ({"ROOT_URLCONF": WithoutMetadata}, "support.W007"),
        ({"SUPPORT_MCP_URL": "http://api.example.com/support/mcp"}, "support.W008"),
    ],
)
def test_each_wrong_setting_has_its_own_id(settings: Any, changes: dict[str, Any], check_id: str) -> None:
    (message,) = found(settings, changes)

    assert message.id == check_id
    assert message.hint


def list_conversations(context: Any) -> str:
    """A tool of a team with the name of one of ours."""
    return ""


def test_a_missing_package_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.checks.mcp.find_spec", lambda name: None)

    (message,) = found(settings, {})

    assert message.id == "support.E017"


def test_the_documented_hook_is_the_one_that_the_tests_run() -> None:
    document, hook = (TOP / "docs/mcp.md").read_text(), TOP / "frontend/oauth.mjs"
    code = "".join(hook.read_text().partition("const LOOPBACK")[1:])

    assert len(code) > 100
    assert code in document
