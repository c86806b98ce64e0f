"""The audit log: one record for each attempt, its fields, and its format in production."""

import io
import json
import logging
import uuid

import jwt
import pytest
from django.conf import settings
from django.test import Client
from pythonjsonlogger.json import JsonFormatter

from authn import audit
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, create, operation

FIELDS = {
    "outcome",
    "reason",
    "status",
    "credential",
    "user_id",
    "session_id",
    "key_id",
    "algorithm",
    "client_address",
    "user_agent",
    "request_id",
    "duration_ms",
}


def test_an_accepted_attempt_is_logged_as_one_json_line_with_user_and_credential(
    api: Api, person: Person
) -> None:
    request_id, token = str(uuid.uuid4()), person.token()

    response = api.post(operation("threads.list"), token, X_Request_ID=request_id, User_Agent="Browser/1.0")

    [record] = api.audit_records(request_id)
    assert set(record) >= FIELDS
    assert (record["outcome"], record["reason"], record["status"]) == ("accepted", "ok", 200)
    assert (record["user_id"], record["session_id"]) == (person.user_id, person.session_id)
    assert (record["credential"], record["algorithm"]) == ("jwt", "EdDSA")
    assert record["client_address"] == "127.0.0.1"
    assert record["user_agent"] == "Browser/1.0"
    assert record["key_id"]
    assert record["duration_ms"] > 0
    assert response.headers["X-Request-ID"] == request_id


def test_a_refused_attempt_is_logged_with_its_reason_and_status(api: Api, person: Person) -> None:
    request_id, token = str(uuid.uuid4()), person.token()
    session_id = person.session_id
    person.sign_out()

    api.post(operation("threads.list"), token, X_Request_ID=request_id)

    [record] = api.audit_records(request_id)
    assert (record["outcome"], record["reason"], record["status"]) == ("refused", "no_active_session", 404)
    assert (record["user_id"], record["session_id"]) == (person.user_id, session_id)


def test_a_forged_token_is_logged_with_the_key_that_checked_it(
    api: Api, person: Person, other_person: Person
) -> None:
    request_id, token = str(uuid.uuid4()), person.token()
    signature = other_person.token().rpartition(".")[2]
    forged = f"{token.rpartition('.')[0]}.{signature}"

    api.post(operation("threads.list"), forged, X_Request_ID=request_id)

    [record] = api.audit_records(request_id)
    assert record["reason"] == "signature"
    assert record["key_id"] == jwt.get_unverified_header(token)["kid"]
    assert record["algorithm"] == "EdDSA"
    assert record["user_id"] is None  # the token is forged, so its claims prove nothing


def test_the_log_holds_no_token_and_no_message(api: Api, person: Person) -> None:
    token, text = person.token(), f"a private matter {uuid.uuid4().hex}"

    api.events(create(text), token)
    api.post(operation("threads.list"), token + "x")
    api.post(text.encode(), token)

    log = api.log.read_text()
    assert text not in log
    assert not any(part in log for part in token.split(".")[1:])


@pytest.mark.parametrize(
    "given", ["", "a b", "a\nb", "é", "x" * 129, '"}{"', None], ids=lambda given: repr(given)[:12]
)
def test_a_request_id_that_is_not_well_formed_is_replaced(client: Client, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}

    response = client.get("/support/health", headers=headers)

    assert uuid.UUID(response["X-Request-ID"])


@pytest.mark.parametrize(
    "given", ["7b2a9c", "3dbd4fef-3cbb-4995-a69b-36df26723339", "Root=1-67891233-abcdef012345678912345678"]
)
def test_a_well_formed_request_id_is_returned(client: Client, given: str) -> None:
    assert client.get("/support/health", headers={"X-Request-ID": given})["X-Request-ID"] == given


@pytest.mark.django_db
def test_a_long_user_agent_is_cut_and_cannot_forge_a_line(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/support/chatkit", HTTP_USER_AGENT='x\n{"outcome": "accepted"}' + "y" * 5000)

    [record] = [record for record in caplog.records if record.name == "authn.audit"]
    options = settings.LOGGING["formatters"]["json"]
    line = JsonFormatter(options["fmt"], rename_fields=options["rename_fields"]).format(record)
    assert "\n" not in line
    assert json.loads(line)["outcome"] == "refused"
    assert len(json.loads(line)["user_agent"]) == 256
    assert record.levelno == logging.INFO


def test_the_handler_for_a_project_without_logging_is_silent_beside_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(audit.logger, "handlers", [audit.StderrHandler(written)])

    audit.logger.info("refused: %s", "expired", extra={"reason": "expired", "status": 401})
    beside_another = written.getvalue()
    monkeypatch.setattr(audit.logger, "parent", None)
    audit.logger.info("refused: %s", "expired", extra={"reason": "expired", "status": 401})

    assert beside_another == ""
    assert (
        json.loads(written.getvalue()).items()
        >= {"level": "INFO", "logger": "authn.audit", "message": "refused: expired", "status": 401}.items()
    )
