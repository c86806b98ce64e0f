"""The API documentation: it agrees with the code and the running server, and a browser can show it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from django.core.management import call_command
from drf_spectacular.renderers import OpenApiYamlRenderer
from playwright.sync_api import Browser, Page, expect, sync_playwright

from chatbackend.openapi.generator import Generator
from chatbackend.openapi.views import POLICY
from support.openapi import operations
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import BETTER_AUTH_URL
from tests.fixtures.programs import program
from tests.fixtures.servers.api import Api, http

TOP = Path(__file__).parents[2]
DOCUMENT = TOP / "docs/openapi.yaml"
SWAGGER = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def documented(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    """A server with documentation that accepts all documented requests."""
    with start_api(
        API_DOCS="True",
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.make_server_without_pauses",
        ATTACHMENT_TYPES="image/png,image/jpeg,image/gif,image/webp,application/pdf,text/plain,text/csv,text/markdown",
        ATTACHMENT_MAX_BYTES=str(2**63),
        ATTACHMENT_BYTES_PER_USER="0",
        SUPPORT_RATE_PER_USER="1000000/min",
        ALLOWED_HOSTS="localhost,127.0.0.1,api.example.com",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    return schema


# --- The document and the code --------------------------------------------------------------------


def test_the_committed_document_is_what_the_code_generates() -> None:
    generated = StringIO()

    call_command("spectacular", validate=True, fail_on_warn=True, stdout=generated)

    how = "Update the document: python manage.py spectacular --file docs/openapi.yaml"
    assert generated.getvalue().rstrip("\n") == DOCUMENT.read_text().rstrip("\n"), how


def test_its_schemas_are_valid_and_every_reference_exists(document: dict[str, Any]) -> None:
    def refs(node: Any) -> Iterator[str]:
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "$ref":
                yield part
            elif isinstance(part, dict | list):
                yield from refs(part)

    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for ref in set(refs(document)):
        place = document
        for part in ref.removeprefix("#/").split("/"):
            place = place[part]


def test_every_operation_of_the_protocol_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    described = operations.OPERATIONS

    assert set(described) == set(schemas["ChatKitRequest"]["discriminator"]["mapping"])
    assert {each.response for each in described.values()} <= set(schemas)
    streaming = {name for name, each in described.items() if each.response == operations.STREAM}
    assert streaming == operations.streaming_operations()


def test_the_document_has_no_hidden_items() -> None:
    assert "Hidden" not in str(Generator().get_schema(public=True))


def test_every_error_has_the_same_body(document: dict[str, Any]) -> None:
    responses = document["components"]["responses"]

    bodies = [response["content"]["application/json"] for response in responses.values()]
    statuses = [example["value"] for body in bodies for example in body["examples"].values()]

    assert {body["schema"]["$ref"] for body in bodies} == {"#/components/schemas/Error"}
    assert [f"Error{each['status']}" for each in statuses] == list(responses)
    for each in statuses:
        assert list(each) == ["error", "status", "message"]
        assert each["error"] == each["message"]


def test_the_document_lists_the_enabled_credentials(settings: Any, document: dict[str, Any]) -> None:
    settings.BETTER_AUTH_CREDENTIALS = ["jwt", "cookie", "bearer"]
    settings.BETTER_AUTH_URL = "https://auth.example.com"

    schema = Generator().get_schema(public=True)

    assert list(document["components"]["securitySchemes"]) == ["betterAuth_jwt"]
    schemes = schema["components"]["securitySchemes"]
    assert [(each["type"], each.get("bearerFormat")) for each in schemes.values()] == [
        ("http", "signed session token"),
        ("apiKey", None),
        ("http", "JWT"),
    ]
    assert schemes["betterAuth_cookie"]["name"] == "__Secure-better-auth.session_token"
    one_of_them = [{"betterAuth_jwt": []}, {"betterAuth_cookie": []}, {"betterAuth_bearer": []}]
    assert schema["paths"]["/support/chatkit"]["post"]["security"] == one_of_them


def test_no_other_setting_changes_the_document(settings: Any) -> None:
    settings.BETTER_AUTH_URL = settings.PUBLIC_URL = "https://elsewhere.example.com"
    settings.ATTACHMENT_TYPES, settings.ATTACHMENT_MAX_BYTES = ["image/png"], 1
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = settings.SUPPORT_RATE_PER_USER = 1
    settings.SUPPORT_TRANSCRIPTION_MODEL = settings.CHATKIT_SERVER = "other"

    assert OpenApiYamlRenderer().render(Generator().get_schema(public=True)) == DOCUMENT.read_bytes()


# --- The document and the server ------------------------------------------------------------------


def test_the_server_conforms_to_the_document(documented: Api, person: Person, tmp_path: Path) -> None:
    """A longer run: ``SCHEMATHESIS_SECONDS=600 make test ARGS=tests/chatbackend/test_docs.py``.

    The maximum is 900 seconds, the lifetime of a token.
    """
    seconds = os.environ.get("SCHEMATHESIS_SECONDS")
    amount = (
        ["--max-time", seconds]
        if seconds
        else ["--phases", "examples,coverage,fuzzing", "--max-examples", "5"]
    )
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(DOCUMENT), "--url", documented.origin]
    command += ["--header", f"Authorization: Bearer {person.token()}", "--workers", "2", *amount]

    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=900)

    assert done.returncode == 0, done.stdout
    assert "Tested: 9" in done.stdout
    assert "Traceback" not in documented.log.read_text()


# --- In a browser ---------------------------------------------------------------------------------


def test_the_server_serves_the_committed_document(documented: Api) -> None:
    answer = http.get(f"{documented.origin}/docs/openapi.yaml")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/yaml")
    assert answer.content == DOCUMENT.read_bytes()


def test_the_page_loads_and_sends_nothing_to_other_origins(documented: Api) -> None:
    answer = http.get(f"{documented.origin}/docs")

    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert re.findall(r'(?:src|href)="(\w+:[^"]+)', answer.text) == [f"{BETTER_AUTH_URL}/api/auth/token"]
    assert "<a href" in answer.text  # a link to click, which loads nothing


def test_the_documentation_is_off_by_default(api: Api) -> None:
    statuses = [
        http.get(f"{api.origin}{path}").status_code for path in ("/docs", "/docs/openapi.yaml", SWAGGER, "/")
    ]

    assert statuses == [404, 404, 404, 404]


def test_the_root_leads_nowhere_in_production(documented: Api) -> None:
    assert http.get(f"{documented.origin}/").status_code == 404


@pytest.fixture(scope="module")
def public_origin(documented: Api) -> str:
    """The server under a public host name. At localhost, Swagger UI contacts no other servers anyway."""
    return documented.origin.replace("localhost", "api.example.com")


@pytest.fixture(scope="module")
def browser(public_origin: str) -> Iterator[Browser]:
    arguments = [
        "--disable-gpu",
        "--host-resolver-rules=MAP api.example.com 127.0.0.1",
        f"--unsafely-treat-insecure-origin-as-secure={public_origin}",  # treated like https, as in production
    ]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program("chromium-headless-shell"), args=arguments)


@pytest.fixture
def page(public_origin: str, person: Person, browser: Browser) -> Iterator[Page]:
    """The documentation in a browser. The test fails if the page reports an error in its console."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{public_origin}/docs")
    yield page
    page.close()
    assert faults == []


def test_a_browser_shows_every_operation_with_its_own_fields(page: Page) -> None:
    for path in ("/support/chatkit", "/support/attachments/{attachment_id}", "/readyz"):
        expect(page.locator(f'[data-path="{path}"]').first).to_be_visible()
    expect(page).to_have_title("chatbackend API")
    chatkit = page.locator(".opblock", has_text="All operations of ChatKit")
    chatkit.locator(".opblock-summary-control").click()
    body = chatkit.locator(".opblock-section-request-body")
    body.get_by_role("tab", name="Schema").click()

    choices = body.locator(".json-schema-2020-12-keyword--oneOf > ul > li")
    shown = [text.split()[1] for text in choices.locator(".json-schema-2020-12__title").all_inner_texts()]
    listed = choices.filter(has_text="items.list")
    listed.get_by_role("button", name="Expand all").click()

    assert sorted(shown) == sorted(operations.OPERATIONS)
    for field in ("thread_id", "limit", "order", "after"):
        expect(listed.get_by_text(field, exact=True)).to_be_visible()


def test_a_token_pasted_once_is_sent_with_every_operation(page: Page, person: Person) -> None:
    page.get_by_text("How to get a token").click()
    where = page.get_by_role("link", name="/api/auth/token").get_attribute("href")
    assert where
    token = person.browser.get(where).json()["token"]
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close", exact=True).last.click()
    chatkit = page.locator(".opblock", has_text="All operations of ChatKit")
    chatkit.locator(".opblock-summary-control").click()
    chatkit.get_by_role("button", name="Try it out").click()
    answers = []

    for name in ("threads.create", "threads.list"):
        chatkit.locator(".opblock-section-request-body .examples-select select").select_option(name)
        with page.expect_response("**/support/chatkit") as answer:
            chatkit.get_by_role("button", name="Execute").click()
        answers.append((answer.value.status, answer.value.headers["content-type"]))
        expect(chatkit.locator(".live-responses-table")).to_contain_text('"id"')

    assert answers == [(200, "text/event-stream"), (200, "application/json")]
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    lock = page.locator(".auth-wrapper .btn.authorize")
    expect(lock).to_have_class("btn authorize locked")
    page.reload()  # the page forgets the token
    expect(lock).to_have_class("btn authorize unlocked")
