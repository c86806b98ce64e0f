"""Error reports and the log contain no secrets, although the frames of the traceback do."""

import email
import uuid
from collections.abc import Callable, Iterator
from email import policy
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, get_default_exception_reporter_filter

from chatbackend.logs.error_reports import Filter, Reporter
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, create, eventually


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mails")


@pytest.fixture(scope="module")
def failing_api(auth: Any, start_api: Callable[..., Any], mails: Path) -> Iterator[Api]:
    with start_api(
        CHATKIT_CONTEXT="tests.fixtures.servers.mail_settings.build",
        CHATKIT_SERVER="tests.fixtures.servers.mail_settings.make_server",
        DJANGO_SETTINGS_MODULE="tests.fixtures.servers.mail_settings",
        MAILS=str(mails),
    ) as running:
        yield running


@pytest.mark.parametrize("place", ["view", "stream", "worker"])
def test_reports_and_the_log_contain_no_token_cookie_or_message(
    failing_api: Api, person: Person, mails: Path, place: str
) -> None:
    token, message, cookie = person.token(), f"{place} {uuid.uuid4().hex}", uuid.uuid4().hex

    answer = failing_api.post(create(message), token, Cookie=f"better-auth.session_token={cookie}")

    [report] = eventually(lambda: reports(mails, f"broken in a {place}"), bool)
    assert answer.status_code == (500 if place == "view" else 200)
    assert "tests/fixtures/servers/mail_settings.py" in report  # the file of the error
    texts = {"the report": report, "the log": failing_api.log.read_text(), "the answer": answer.text}
    for secret in (message, cookie, *token.split(".")[1:]):
        # The stream returns the message to its sender as a part of the thread.
        holders = {name for name, text in texts.items() if secret in text}
        assert holders <= ({"the answer"} if secret == message and place != "view" else set()), secret


def reports(mails: Path, about: str) -> list[str]:
    """The text and HTML of each mail. Django writes the mails of one second into one file."""
    written = [
        mail for path in mails.iterdir() for mail in path.read_bytes().split(b"-" * 79) if mail.strip()
    ]
    parsed = [email.message_from_bytes(mail.lstrip(), policy=policy.default) for mail in written]
    whole = ["".join(part.get_content() for part in mail.iter_parts()) for mail in parsed]
    return [text for text in whole if about in text]


# Random values, so that the source lines in a traceback do not contain them.
FRAME, FORM, COOKIE, QUERY, REDIS = SECRETS = [uuid.uuid4().hex for _ in range(5)]


def create_report(reporter: type[ExceptionReporter], settings: Any) -> str:
    settings.CACHES = {"default": {"LOCATION": f"redis://:{REDIS}@localhost"}}
    request = RequestFactory().post(f"/?signature={QUERY}", {"text": FORM})
    request.COOKIES["anything"] = COOKIE

    def fail(anything: str) -> None:
        raise RuntimeError

    try:
        fail(FRAME)
    except RuntimeError as exc:
        created = reporter(request, type(exc), exc, exc.__traceback__)
    return created.get_traceback_text() + created.get_traceback_html()


def test_a_report_contains_only_a_traceback(settings: Any) -> None:
    report = create_report(Reporter, settings)

    assert isinstance(get_default_exception_reporter_filter(), Filter)
    assert "in fail" in report
    assert [secret for secret in SECRETS if secret in report] == []


def test_djangos_own_report_would_contain_all_secrets(settings: Any) -> None:
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "django.views.debug.SafeExceptionReporterFilter"
    get_default_exception_reporter_filter.cache_clear()
    try:
        report = create_report(ExceptionReporter, settings)
    finally:
        get_default_exception_reporter_filter.cache_clear()

    assert [secret for secret in SECRETS if secret in report] == SECRETS
