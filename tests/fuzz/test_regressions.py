"""Faults that long runs have found."""

import json

import pytest

from support.openapi import operations
from tests.fuzz.application import Client, check_answer
from tests.fuzz.cases import Case, Cases

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_query_that_is_not_utf_8_gets_a_normal_answer() -> None:
    case = Case("GET", "/support/attachments/x/content", b"signature=\x80%80&a=b+c")

    with Client() as client:
        [answer] = client.ask(case)

    check_answer(case, answer)
    assert (answer.status, json.loads(answer.body)["error"]) == (404, "Not found")
    assert "X-Request-ID" in {name.decode() for name, _ in answer.headers}


def test_the_log_does_not_contain_an_unknown_host() -> None:
    case = Case(headers=[(b"host", b"eyJhbGciOiJFZERTQSJ9.payload.signature")])

    with Client() as client:
        [answer] = client.ask(case)

    check_answer(case, answer)
    assert answer.status == 400
    assert "The Host of a request is not in ALLOWED_HOSTS" in answer.log
    assert "eyJhbGciOiJFZERTQSJ9" not in answer.log


def test_a_long_path_is_shortened_in_the_log() -> None:
    case = Case("GET", "/support/" + "x" * 30_000)

    with Client() as client:
        [answer] = client.ask(case)

    check_answer(case, answer)
    assert answer.status == 404
    assert "Not Found: /support/xxx" in answer.log
    assert len(answer.log) < 2000


def test_an_operation_that_does_not_fit_its_thread_is_a_400(cases: Cases) -> None:
    body = operations.example("threads.add_client_tool_output")
    body["params"]["thread_id"] = cases.thread_id
    token = cases.signer.raw(
        cases.signer.claims(sub=cases.person.user_id, email=cases.person.email, sid=cases.sid)
    )
    case = Case(headers=[(b"authorization", f"Bearer {token}".encode())], body=[json.dumps(body).encode()])

    with Client() as client:
        [answer] = client.ask(case)

    check_answer(case, answer)
    assert answer.status == 400
