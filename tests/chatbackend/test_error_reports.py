"""What an error report and the log say when something breaks, whose frames hold what they must not say."""

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
def breaking(auth: Any, start_api: Callable[..., Any], mails: Path) -> Iterator[Api]:
    with start_api(
        CHATKIT_CONTEXT="tests.fixtures.servers.mail_settings.build",
        CHATKIT_SERVER="tests.fixtures.servers.mail_settings.make_server",
        DJANGO_SETTINGS_MODULE="tests.fixtures.servers.mail_settings",
        MAILS=str(mails),
    ) as running:
        yield running


@pytest.mark.parametrize("place", ["view", "stream", "worker"])
def test_reports_and_the_log_contain_no_token_cookie_or_message(
    breaking: Api, person: Person, mails: Path, place: str
) -> None:
    token, said, cookie = person.token(), f"{place} {uuid.uuid4().hex}", uuid.uuid4().hex

    answer = breaking.post(create(said), token, Cookie=f"better-auth.session_token={cookie}")

    [report] = eventually(lambda: reports(mails, f"broken in a {place}"), bool)
    assert answer.status_code == (500 if place == "view" else 200)
    assert "tests/fixtures/servers/mail_settings.py" in report  # it says where
    told = {"the report": report, "the log": breaking.log.read_text(), "the answer": answer.text}
    for secret in (said, cookie, *token.split(".")[1:]):
        # What was said is sent back to whoever said it, as a part of their conversation.
        holders = {name for name, text in told.items() if secret in text}
        assert holders <= ({"the answer"} if secret == said and place != "view" else set()), secret


def reports(mails: Path, about: str) -> list[str]:
    """The text and the page of each mail about it; of one second, Django may write two into one file."""
    written = [
        mail for path in mails.iterdir() for mail in path.read_bytes().split(b"-" * 79) if mail.strip()
    ]
    parsed = [email.message_from_bytes(mail.lstrip(), policy=policy.default) for mail in written]
    whole = ["".join(part.get_content() for part in mail.iter_parts()) for mail in parsed]
    return [text for text in whole if about in text]


# Made up here, so that the source lines of a traceback do not have them.
FRAME, FORM, COOKIE, ADDRESS, REDIS = SECRETS = [uuid.uuid4().hex for _ in range(5)]


def a_report(reporter: type[ExceptionReporter], settings: Any) -> str:
    settings.CACHES = {"default": {"LOCATION": f"redis://:{REDIS}@localhost"}}
    request = RequestFactory().post(f"/?signature={ADDRESS}", {"text": FORM})
    request.COOKIES["anything"] = COOKIE

    def break_down(anything: str) -> None:
        raise RuntimeError

    try:
        break_down(FRAME)
    except RuntimeError as exc:
        made = reporter(request, type(exc), exc, exc.__traceback__)
    return made.get_traceback_text() + made.get_traceback_html()


def test_a_report_contains_only_a_traceback(settings: Any) -> None:
    report = a_report(Reporter, settings)

    assert isinstance(get_default_exception_reporter_filter(), Filter)
    assert "break_down" in report
    assert [secret for secret in SECRETS if secret in report] == []


def test_djangos_own_report_would_contain_all_secrets(settings: Any) -> None:
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "django.views.debug.SafeExceptionReporterFilter"
    get_default_exception_reporter_filter.cache_clear()
    try:
        report = a_report(ExceptionReporter, settings)
    finally:
        get_default_exception_reporter_filter.cache_clear()

    assert [secret for secret in SECRETS if secret in report] == SECRETS
