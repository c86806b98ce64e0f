"""Who is refused, and with which response. Tested with HTTP requests on Better Auth's own tables."""

import base64
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from rest_framework.exceptions import ValidationError
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework.views import exception_handler as drf_exception_handler

from authn.errors import Unavailable
from authn.responses import exception_handler
from chatbackend.dev.postgres import postgres_process
from tests.fixtures.accounts.people import PASSWORD, Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, NO_CREDENTIALS, REALM, body_of, post
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.environment import PAGE_ORIGIN
from tests.fixtures.servers.api import create, operation

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "authorization", [None, "", "Basic YTpi", "Token x.y.z", "Bearerx"], ids=lambda value: str(value)
)
def test_without_credentials_the_response_is_a_401_with_the_scheme(
    client: Client, authorization: str | None, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    response = post(client, authorization)

    assert (response.status_code, response.json()) == (401, body_of(NO_CREDENTIALS, 401))
    assert response["WWW-Authenticate"] == REALM
    assert [(record["outcome"], record["reason"]) for record in audit()] == [("refused", "no_credentials")]


def expired(signer: Signer, person: Person) -> str:
    return signer.token(sub=person.user_id, email=person.email, iat=1, exp=901)


def forged(signer: Signer, person: Person) -> str:
    attacker = Signer(signer.kid, "EdDSA", Signer.unknown().private_key)
    return attacker.token(sub=person.user_id, email=person.email)


def with_another_issuer(signer: Signer, person: Person) -> str:
    return signer.token(sub=person.user_id, email=person.email, iss="https://evil.example")


def with_another_audience(signer: Signer, person: Person) -> str:
    return signer.token(sub=person.user_id, email=person.email, aud="https://other.example")


def with_an_unknown_key(signer: Signer, person: Person) -> str:
    return Signer.unknown().token(sub=person.user_id, email=person.email)


def without_an_email(signer: Signer, person: Person) -> str:
    return signer.token(sub=person.user_id, email=None)


def with_another_subject(signer: Signer, person: Person) -> str:
    return signer.token(sub="somebody-else", email=person.email)


def of_a_session_that_was_replaced(signer: Signer, person: Person) -> str:
    token, new = person.token(), f"{PASSWORD} 2"
    person.post("change-password", currentPassword=PASSWORD, newPassword=new, revokeOtherSessions=True)
    return token


def of_a_browser_that_signed_out_beside_another(signer: Signer, person: Person) -> str:
    token = person.token()
    person.auth.sign_in(person.email)
    person.sign_out()
    return token


def with_an_email_that_has_changed(signer: Signer, person: Person) -> str:
    token = person.token()
    person.change_email(f"new-{person.email}")
    return token


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda signer, person: "", "malformed"),
        (lambda signer, person: "not-a-token", "malformed"),
        (expired, "expired"),
        (forged, "signature"),
        (with_another_issuer, "issuer"),
        (with_another_audience, "audience"),
        (with_an_unknown_key, "unknown_kid"),
        (without_an_email, "missing_email"),
        (with_another_subject, "subject_mismatch"),
        (of_a_session_that_was_replaced, "session_ended"),
        (of_a_browser_that_signed_out_beside_another, "session_ended"),
        (with_an_email_that_has_changed, "address_changed"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_bad_token_gets_the_same_401_and_only_the_audit_log_has_the_reason(
    client: Client,
    signer: Signer,
    person: Person,
    audit: Callable[[], list[dict[str, Any]]],
    forge: Callable[[Signer, Person], str],
    reason: str,
) -> None:
    response = post(client, f"Bearer {forge(signer, person)}")

    assert (response.status_code, response.json()) == (401, body_of(BAD_TOKEN, 401))
    assert response["WWW-Authenticate"] == f'{REALM}, error="invalid_token"'
    assert [record["reason"] for record in audit()] == [reason]


@pytest.mark.parametrize("outdate", [of_a_session_that_was_replaced, with_an_email_that_has_changed])
def test_a_page_that_gets_a_new_token_after_a_401_continues(
    client: Client, signer: Signer, person: Person, outdate: Callable[[Signer, Person], str]
) -> None:
    old = outdate(signer, person)

    statuses = [post(client, f"Bearer {token}").status_code for token in (old, person.token())]

    assert statuses == [401, 200]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_case_insensitive(client: Client, person: Person, scheme: str) -> None:
    assert post(client, f"{scheme} {person.token()}").status_code == 200


def test_better_auths_session_token_is_not_a_jwt(client: Client, person: Person) -> None:
    response = person.auth.sign_in(person.email).browser.get("get-session").json()

    assert post(client, f"Bearer {response['session']['token']}").status_code == 401


def test_a_good_token_of_an_unknown_user_is_a_404(client: Client, signer: Signer) -> None:
    response = post(client, f"Bearer {signer.token(sub='ghost', email='ghost@example.com')}")

    message = "User not found with provided email"
    assert (response.status_code, response.json()) == (404, body_of(message, 404))


def test_after_sign_out_the_token_finds_no_active_session(client: Client, person: Person) -> None:
    token = person.token()
    person.sign_out()

    response = post(client, f"Bearer {token}")

    message = "No active sessions found for user"
    assert (response.status_code, response.json()) == (404, body_of(message, 404))


def test_a_body_over_the_limit_is_a_413_that_names_the_limit(
    client: Client, person: Person, settings: Any
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    response = post(client, f"Bearer {person.token()}")

    message = "The request body exceeds 10 bytes"
    assert (response.status_code, response.json()) == (413, body_of(message, 413))


def test_a_refused_client_learns_nothing_about_the_body_format(client: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    assert post(client).status_code == 401


def test_too_many_requests_are_a_429_with_retry_after(
    client: Client, person: Person, other_person: Person, settings: Any
) -> None:
    settings.SUPPORT_RATE_PER_USER = "2/hour"
    token = person.token()

    statuses = [post(client, f"Bearer {token}").status_code for _ in range(3)]
    response = post(client, f"Bearer {token}")

    assert statuses == [200, 200, 429]
    assert int(response["Retry-After"]) in range(1, 3601)
    assert response.json()["status"] == 429
    assert post(client, f"Bearer {other_person.token()}").status_code == 200


@pytest.mark.parametrize("method", ["get", "put", "delete", "options"])
def test_other_methods_are_a_405_in_json(client: Client, person: Person, method: str) -> None:
    response = getattr(client, method)("/support/chatkit", HTTP_AUTHORIZATION=f"Bearer {person.token()}")

    assert response.status_code == 405
    assert response["Allow"] == "POST"
    assert response.json()["status"] == 405


@pytest.mark.parametrize("path", ["/support/nothing", "/support/chatkit/", "/support/"])
def test_an_unknown_path_is_a_404_in_json(client: Client, path: str) -> None:
    response = client.post(path)

    assert (response.status_code, response.json()) == (404, body_of("Not Found", 404))


def test_djangos_error_pages_are_json_with_debug_too(client: Client, settings: Any) -> None:
    settings.DEBUG = True

    assert client.get("/support/nothing").json() == body_of("Not Found", 404)
    assert "html" in client.get("/nothing")["Content-Type"]


def test_a_bad_host_is_a_400_in_json(client: Client) -> None:
    response = client.get("/support/health", HTTP_HOST="evil.example")

    assert (response.status_code, response.json()) == (400, body_of("Bad Request", 400))


def test_djangos_errors_keep_their_cors_headers(client: Client) -> None:
    for path, host in (("/support/nothing", "testserver"), ("/support/health", "evil.example")):
        response = client.get(path, HTTP_ORIGIN=PAGE_ORIGIN, HTTP_HOST=host)

        assert response.status_code in (404, 400)
        assert response["Access-Control-Allow-Origin"] == PAGE_ORIGIN
        assert response["X-Content-Type-Options"] == "nosniff"


def test_a_server_error_is_a_500_in_json_without_details(
    client: Client, person: Person, settings: Any
) -> None:
    client.raise_request_exception = False
    settings.CHATKIT_CONTEXT = f"{__name__}.broken_context"

    response = post(client, f"Bearer {person.token()}")

    message = "Internal Server Error"
    assert (response.status_code, response.json()) == (500, body_of(message, 500))


def broken_context(request: Any) -> Any:
    raise RuntimeError("a secret of ours")


def test_a_database_that_does_not_answer_is_a_503(
    client: Client, person: Person, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    token = person.token()
    assert post(client, f"Bearer {token}").status_code == 200

    def broken(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise OperationalError("the server closed the connection unexpectedly")

    with connection.execute_wrapper(broken):
        response = post(client, f"Bearer {token}")

    message = "Service temporarily unavailable"
    assert (response.status_code, response.json()) == (503, body_of(message, 503))
    assert int(response["Retry-After"]) > 0
    assert audit()[-1]["reason"] == "database_unavailable"
    assert audit()[-1]["levelname"] == "WARNING"


def test_a_database_error_that_is_no_outage_is_a_500(
    client: Client, person: Person, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    client.raise_request_exception = False
    token = person.token()
    with connection.cursor() as cursor:  # the test's rollback undoes it
        cursor.execute('ALTER TABLE "session" RENAME COLUMN "userAgent" TO "agent"')

    response = post(client, f"Bearer {token}")

    assert response.status_code == 500
    assert [(record["outcome"], record["status"]) for record in audit()] == [("refused", 500)]


def test_a_database_that_is_down_is_a_503_for_every_kind_of_operation(
    tmp_path: Path, start_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> None:
    with ExitStack() as running:
        with postgres_process(tmp_path, throwaway=True) as (database, url):
            auth = running.enter_context(start_better_auth(DATABASE_URL=url))
            own = {"DATABASE_URL": url, "BETTER_AUTH_URL": auth.origin}
            api = running.enter_context(start_api(**own))
            token = auth.sign_up().token()
            asked = operation("input.transcribe", audio_base64="AAAA", mime_type="audio/webm")
            before = api.post(asked, token)
            database.kill()
            database.wait()
        responses = [api.post(body, token) for body in (operation("threads.list"), create())]

    assert before.status_code == 501  # authenticated: only the operation is unknown
    assert [response.status_code for response in responses] == [503, 503]
    assert all(int(response.headers["Retry-After"]) > 0 for response in responses)


def test_a_request_without_any_keys_is_a_503(client: Client, person: Person, settings: Any) -> None:
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_URL = "jwks", "http://127.0.0.1:9/jwks"

    response = post(client, f"Bearer {person.token()}")

    assert (response.status_code, response["Retry-After"]) == (503, "2")


def test_the_chat_keeps_its_errors_with_drfs_own_exception_handler(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A project's EXCEPTION_HANDLER is for its own views (tests/authn/test_alone.py).
    monkeypatch.setattr(api_settings, "EXCEPTION_HANDLER", drf_exception_handler)

    response = post(client, "Bearer nonsense")

    assert (response.status_code, response.json()) == (401, body_of(BAD_TOKEN, 401))


class RefusesAll(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        return False


def test_a_projects_own_throttles_do_not_refuse_the_pictures_of_a_chat(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIView, "throttle_classes", [RefusesAll])  # DEFAULT_THROTTLE_CLASSES

    response = client.get("/support/attachments/atc_1/content")

    assert response.status_code == 404  # no signature


def test_an_error_without_a_detail_has_the_phrase_of_its_status() -> None:
    response = exception_handler(ValidationError({"name": ["Too long"]}), {})

    assert response is not None
    assert response.data == body_of("Bad Request", 400)


def test_no_response_and_no_log_line_holds_the_token(
    client: Client, person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    token = person.token()
    parts = token.split(".")
    payload = base64.urlsafe_b64decode(parts[1] + "==").decode()

    responses = [
        post(client, f"Bearer {token}"),
        post(client, f"Bearer {token}x"),
        post(client, f"Basic {token}"),
    ]

    seen = caplog.text + "".join(
        str(vars(record)) for record in caplog.records if record.name == "authn.audit"
    )
    seen += "".join(str(response.headers) + response.content.decode() for response in responses)
    assert parts[1] not in seen
    assert parts[2] not in seen
    assert payload not in seen


def test_drfs_own_exception_handler_sends_retry_after_too() -> None:
    response = drf_exception_handler(Unavailable(), {})

    assert response is not None
    assert (response.status_code, response["Retry-After"]) == (503, "2")
