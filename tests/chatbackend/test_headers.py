"""The response headers of each kind of response, with production settings."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User as Staff
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from chatbackend.openapi import views
from chatbackend.web.headers import API_HEADERS, PAGE_HEADERS, policies_middleware
from support.files import signed_urls
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.fixtures.attachments import attach
from tests.fixtures.database.rows import create_items, create_thread, user_message
from tests.fixtures.servers.api import Api, create, http, operation
from tests.fixtures.servers.forkserver import manage

pytestmark = pytest.mark.django_db

HSTS = "max-age=31536000"
ALL_RESPONSES = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Strict-Transport-Security": HSTS,
}
NO_CACHE = "max-age=0, no-cache, no-store, must-revalidate, private"


def ask(client: Client, path: str, person: Person | None = None, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {person.token()}"} if person else {}
    if body is None:
        return client.get(path, headers=headers, secure=True)
    return client.post(path, json.dumps(body), "application/json", headers=headers, secure=True)


def list_threads(client: Client, person: Person) -> Any:
    return ask(client, "/support/chatkit", person, operation("threads.list"))


def refused(client: Client, person: Person) -> Any:
    return ask(client, "/support/chatkit", None, operation("threads.list"))


def missing_thread(client: Client, person: Person) -> Any:
    return ask(client, "/support/chatkit", person, operation("threads.get_by_id", thread_id="thr_1"))


def missing_attachment(client: Client, person: Person) -> Any:
    return ask(client, "/support/attachments/atc_1", person)


def bad_signature(client: Client, person: Person) -> Any:
    return ask(client, "/support/attachments/atc_1/content?signature=x")


def unknown_path(client: Client, person: Person) -> Any:
    return ask(client, "/support/nothing")


def health(client: Client, person: Person) -> Any:
    return ask(client, "/support/health")


@pytest.mark.parametrize(
    "send",
    [
        list_threads,
        refused,
        missing_thread,
        missing_attachment,
        bad_signature,
        unknown_path,
        health,
    ],
)
def test_an_api_response_has_the_headers_of_the_api(
    client: Client, person: Person, send: Callable[[Client, Person], Any]
) -> None:
    response = send(client, person)

    assert response.status_code in (200, 401, 404)
    assert response.headers.items() >= (ALL_RESPONSES | API_HEADERS).items()
    assert "Permissions-Policy" not in response.headers


@pytest.mark.parametrize(
    "path",
    ["/admin/login/", "/admin/", "/admin/support/thread/", "/admin/support/thread/{}/change/", "/nothing"],
)
def test_a_page_has_the_headers_of_a_page(path: str) -> None:
    staff = signed_in(*VIEW)
    thread = create_thread()
    create_items(thread, user_message("Hello"))

    response = staff.get(path.format(thread.pk), secure=True)

    assert response.headers.items() >= (ALL_RESPONSES | PAGE_HEADERS).items()
    if path.startswith("/admin/"):
        assert response.headers["Cache-Control"] == NO_CACHE


def directives(policies: dict[str, str]) -> dict[str, str]:
    parts = (part.split(maxsplit=1) for part in policies["Content-Security-Policy"].split(";"))
    return dict(parts)


def test_the_policies_allow_only_our_own_origin() -> None:
    page, features = directives(PAGE_HEADERS), PAGE_HEADERS["Permissions-Policy"].split(", ")

    assert page.pop("style-src").startswith("'self' 'sha256-")
    assert page.pop("img-src") == "'self' data:"
    nothing, ours = (
        ("default-src", "base-uri", "frame-ancestors"),
        ("script-src", "connect-src", "form-action"),
    )
    assert page == dict.fromkeys(nothing, "'none'") | dict.fromkeys(ours, "'self'")
    denied = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
    assert features == [f"{feature}=()" for feature in denied]
    assert directives(API_HEADERS) == dict.fromkeys(("default-src", "frame-ancestors"), "'none'")
    assert API_HEADERS["Cache-Control"] == "no-store"


def test_streams_and_attachments_keep_their_own_headers(api: Api, person: Person) -> None:
    plain_http = ALL_RESPONSES.keys() - {"Strict-Transport-Security"}

    with api.stream(create(), person.token()) as events:
        stream, _ = next(events)
    file = http.get(attach(api, person)["preview_url"])
    static = http.get(f"{api.origin}/static/admin/css/base.css")

    for answer in (stream, file):
        assert {name: answer.headers[name] for name in plain_http}.items() <= ALL_RESPONSES.items()
    assert stream.headers["Cache-Control"] == "no-store, no-transform"
    assert stream.headers["Content-Security-Policy"] == API_HEADERS["Content-Security-Policy"]
    assert file.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert file.headers["Cache-Control"].startswith("private, max-age=")
    assert static.headers["X-Content-Type-Options"] == "nosniff"


def test_the_documentation_keeps_its_own_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "render", lambda *_: HttpResponse())  # it needs a URLconf with API_DOCS

    response = policies_middleware(views.page)(RequestFactory().get("/docs"))

    assert response.headers["Content-Security-Policy"] == views.POLICY
    assert response.headers["Permissions-Policy"] == PAGE_HEADERS["Permissions-Policy"]


def test_djangos_debug_page_gets_no_policy(settings: Any) -> None:
    settings.DEBUG = True

    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=500 if request.path == "/broken" else 200)

    get_response = policies_middleware(page)

    assert "Content-Security-Policy" not in get_response(RequestFactory().get("/broken"))
    assert "Content-Security-Policy" in get_response(RequestFactory().get("/"))


def test_the_admins_cookies_are_secure_httponly_and_lax() -> None:
    Staff.objects.create_superuser("staff", password="a-password-of-theirs")
    browser = Client()
    browser.get("/admin/login/", secure=True)
    form = {"username": "staff", "password": "a-password-of-theirs"}
    browser.post("/admin/login/", form, secure=True)

    for cookie in (browser.cookies["csrftoken"], browser.cookies["sessionid"]):
        assert cookie["secure"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert not cookie["domain"]


def test_no_api_response_sets_a_cookie(client: Client, person: Person) -> None:
    assert not list_threads(client, person).cookies


def test_production_settings_pass_check_deploy_without_a_warning(database_url: str, auth: Any) -> None:
    """With only the variables that docs/deployment.md requires."""
    done = manage(
        "check",
        "--deploy",
        "--fail-level=WARNING",
        SECRET_KEY="k" * 30 + "0123456789abcdefghij",
        ALLOWED_HOSTS="api.example.com",
        BETTER_AUTH_URL="https://auth.example.com",
        CORS_ALLOWED_ORIGINS="https://shop.example.com",
        DATABASE_URL=database_url,
        NUM_PROXIES="1",
        PUBLIC_URL="https://api.example.com",
        SECURE_SSL_REDIRECT="True",
        TRUST_X_FORWARDED_PROTO="True",
        PYTHONDEVMODE="0",  # development mode shows a warning of ChatKit's SDK
        PYTHONWARNINGS="ignore",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "System check identified no issues (2 silenced).\n"


def test_the_url_of_a_file_is_not_sent_as_a_referrer_to_other_sites(client: Client, person: Person) -> None:
    """Its query contains the signature, and a referrer would contain the query."""
    assert "signature=" in str(signed_urls.content_url(person.user_id, "atc_1"))
    assert bad_signature(client, person).headers["Referrer-Policy"] == "same-origin"
