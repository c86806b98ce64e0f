"""What the examinations share: the database's catalogue and Better Auth's answer, each read once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx2
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from authn.conf import conf, origin
from authn.diagnosis.doctor.catalogue import Catalogue
from authn.diagnosis.doctor.findings import ExaminationSkipped
from authn.tables import naming

STATEMENT_TIMEOUT_MS = 3000  # of each statement, so that no large table is read to its end
HTTP_TIMEOUT_SECONDS = 3.0
SHOWN_AS_TOKENS = {"cookie", "bearer"}  # the credentials that are looked up by session.token


@dataclass(frozen=True, slots=True)
class Answer:
    """Better Auth's, to a request for its keys. ``ahead``: of our clock, in seconds; unknown: ``None``."""

    status: int
    location: str
    ahead: float | None


@dataclass
class Deployment:
    token: str = field(default="", repr=False)
    processes: int = 1

    @property
    def database(self) -> BaseDatabaseWrapper:
        """The one with Better Auth's tables."""
        return connections[conf.BETTER_AUTH_DATABASE]

    @cached_property
    def unreachable(self) -> str:
        return why_unreachable(self.database)

    @cached_property
    def catalogue(self) -> Catalogue:
        if self.unreachable:
            raise ExaminationSkipped("The database cannot be reached.")
        with read_only_cursor(conf.BETTER_AUTH_DATABASE) as cursor:
            return Catalogue.read(cursor, self.database.vendor)

    @cached_property
    def answer(self) -> Answer | None:
        """Of the address with Better Auth's keys; ``None`` when nobody answers there."""
        asked_at = timezone.now()
        try:
            with httpx2.stream(
                "GET", conf.BETTER_AUTH_JWKS_URL, timeout=HTTP_TIMEOUT_SECONDS, follow_redirects=False
            ) as response:
                received_at = timezone.now()
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return None
        date = parse_http_date_safe(response.headers.get("Date", ""))
        halfway = asked_at + (received_at - asked_at) / 2
        # Whole seconds, cut off: half a second is what they lack on average.
        ahead = None if date is None else date + 0.5 - halfway.timestamp()
        return Answer(response.status_code, address(response.headers.get("Location", "")), ahead)


def why_unreachable(database: Any) -> str:
    """Empty: it can be reached."""
    if database.vendor == "unknown":
        return "its address is none that is understood"
    if database.connection is None:
        try:
            database.Database.connect(**database.get_connection_params()).close()
        except (database.Database.Error, ImproperlyConfigured) as exc:
            return reason_of(exc)
    return ""


@contextmanager
def read_only_cursor(alias: str) -> Iterator[Any]:
    """A cursor that can change nothing, asks for no longer than a moment, and leaves nothing behind."""
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
            cursor.execute(f"SET LOCAL lock_timeout = {STATEMENT_TIMEOUT_MS}")
            cursor.execute("SET LOCAL transaction_read_only = on")
        yield cursor
        transaction.set_rollback(True, using=alias)


def address(url: str) -> str:
    """Without a user's name and password, a query or a fragment: to be shown."""
    match = re.match(r"[^?#]*://[^/?#]*([^?#]*)", url)
    return f"{origin(url)}{match[1]}" if match and origin(url) else ""


def fields_of(model: str) -> dict[str, str]:
    """Better Auth's fields that we read, and the columns that the settings take them from."""
    fields = sorted(name.partition(".")[2] for name in naming.fields if name.startswith(f"{model}."))
    if not SHOWN_AS_TOKENS & set(conf.BETTER_AUTH_CREDENTIALS):
        fields = [name for name in fields if (model, name) != ("session", "token")]
    columns = {name: naming.column(model, name) for name in fields}
    return {name: column for name, column in columns.items() if column}  # "": an older version has it not


REASONS = {
    "connection refused": "nothing listens there",
    "timeout expired": "it does not answer in time",
    "connection timeout": "it does not answer in time",
    "translate host name": "its name is unknown",
    "name or service not known": "its name is unknown",
    "failed to resolve host": "its name is unknown",
    "certificate": "its certificate is not accepted",
    "no such file": "its socket or file does not exist",
    "unable to open database file": "its file cannot be opened",
    "server closed the connection": "it closed the connection",
    "does not support ssl": "it does not speak TLS, which sslmode asks for",
}


def reason_of(error: BaseException) -> str:
    """PostgreSQL's own words where it spoke; of what the client library says only the kind, for that
    may quote a piece of a password that was taken for a port."""
    if spoken := re.search(r"FATAL:\s+([^\n]+)", str(error)):
        return spoken[1].rstrip(".")
    text = str(error).lower()
    known = (reason for fragment, reason in REASONS.items() if fragment in text)
    return next(known, f"the address cannot be used ({type(error).__name__})")
