"""No frame of our code shows a token in Django's own error report, if a project uses that report.

Some frames of the ORM do, because Django cannot see the caller of a generator. The report of
chatbackend.logs.error_reports shows no variables at all.
"""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter
from jwt.algorithms import OKPAlgorithm

from authn import sessions
from authn.jwt import tokens
from authn.tables import compiled
from tests.fixtures.accounts.people import Person


class Broken(Exception):
    pass


def raise_error(*args: Any) -> Any:
    raise Broken


def report_of(act: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The report without the test's own frame: it has the token too."""
    request: Any = RequestFactory().get("/")
    request.exception_reporter_filter = SafeExceptionReporterFilter()
    with pytest.raises(Broken) as broken:
        act(*args, **kwargs)
    frames: Any = broken.value.__traceback__
    return ExceptionReporter(request, Broken, broken.value, frames.tb_next).get_traceback_html()


@pytest.mark.django_db
def test_an_error_report_of_the_verification_holds_no_token(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = person.token()
    monkeypatch.setattr(OKPAlgorithm, "verify", raise_error)

    report = report_of(tokens.verify, token)

    assert "api_jws.py" in report  # its frames hold the token under other names
    assert [part for part in token.split(".") if part in report] == []


@pytest.mark.django_db
def test_an_error_report_of_the_look_up_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    token = uuid.uuid4().hex
    monkeypatch.setattr(compiled, "_fetch_rows", raise_error)

    report = report_of(sessions.resolve_token, token, is_signed=True)

    assert "_with_token" in report
    assert token not in report
