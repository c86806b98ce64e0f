"""The examined deployment: its database, the database's catalogue and Better Auth's response.

All examinations share one ``Deployment``, so the catalogue and the response are read only once.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from authn.conf import conf, origin
from authn.diagnosis.doctor.catalogue import Catalogue
from authn.diagnosis.doctor.findings import ExaminationSkipped
from authn.tables import naming

STATEMENT_TIMEOUT_MS = 3000  # for each SQL statement, because a table may be very large
HTTP_TIMEOUT_SECONDS = 3.0
SESSION_TOKEN_CREDENTIALS = {"cookie", "bearer"}  # these are looked up by session.token


@dataclass(frozen=True, slots=True)
class JwksResponse:
    """Better Auth's response to a request of its JWKS URL.

    ``location``: the target of a redirect, or "". ``clock_ahead``: the number of seconds by which Better
    Auth's clock is ahead of ours. ``None`` if the response has no Date header.
    """

    status: int
    location: str
    clock_ahead: float | None


@dataclass
class Deployment:
    token: str = field(default="", repr=False)
    processes: int = 1

    @property
    def database(self) -> BaseDatabaseWrapper:
        """The database with Better Auth's tables."""
        if conf.BETTER_AUTH_DATABASE not in connections:
            raise ExaminationSkipped("BETTER_AUTH_DATABASE is not an alias of DATABASES.")
        return connections[conf.BETTER_AUTH_DATABASE]

    @cached_property
    def unreachable(self) -> str:
        """Why the database cannot be reached. "" if it can be reached."""
        return why_unreachable(self.database)

    @cached_property
    def catalogue(self) -> Catalogue:
        if self.unreachable:
            raise ExaminationSkipped("The database cannot be reached.")
        with read_only_cursor(conf.BETTER_AUTH_DATABASE) as cursor:
            return Catalogue.read(cursor, self.database.vendor)

    @cached_property
    def jwks_response(self) -> JwksResponse | None:
        """``None`` if nothing answers at the JWKS URL."""
        if find_spec("httpx2") is None:
            raise ExaminationSkipped('The package httpx2 is missing: pip install "chatbackend[jwks]"')
        import httpx2

        sent_at = timezone.now()
        try:
            with httpx2.stream(
                "GET", conf.BETTER_AUTH_JWKS_URL, timeout=HTTP_TIMEOUT_SECONDS, follow_redirects=False
            ) as response:
                received_at = timezone.now()
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return None
        date = parse_http_date_safe(response.headers.get("Date", ""))
        halfway = sent_at + (received_at - sent_at) / 2
        # The Date header has no fractions of a second, so add half a second, which is the average fraction.
        clock_ahead = None if date is None else date + 0.5 - halfway.timestamp()
        location = printable_url(response.headers.get("Location", ""))
        return JwksResponse(response.status_code, location, clock_ahead)


def why_unreachable(database: Any) -> str:
    """Returns why the database cannot be reached. "" if it can be reached."""
    if database.vendor == "unknown":
        return "its URL is not valid"
    if database.connection is None:
        try:
            database.Database.connect(**database.get_connection_params()).close()
        except (database.Database.Error, ImproperlyConfigured) as exc:
            return reason_of(exc)
    return ""


@contextmanager
def read_only_cursor(alias: str) -> Iterator[Any]:
    """A cursor in a read-only transaction with a time limit. The transaction is rolled back at the end."""
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
            cursor.execute(f"SET LOCAL lock_timeout = {STATEMENT_TIMEOUT_MS}")
            cursor.execute("SET LOCAL transaction_read_only = on")
        yield cursor
        transaction.set_rollback(True, using=alias)


def printable_url(url: str) -> str:
    """Returns the URL without its user name, password, query and fragment."""
    match = re.match(r"[^?#]*://[^/?#]*([^?#]*)", url)
    return f"{origin(url)}{match[1]}" if match and origin(url) else ""


def fields_of(model: str) -> dict[str, str]:
    """Returns the fields of a model that we read, and for each the column that the settings name."""
    fields = sorted(name.partition(".")[2] for name in naming.fields if name.startswith(f"{model}."))
    if not SESSION_TOKEN_CREDENTIALS & set(conf.BETTER_AUTH_CREDENTIALS):
        fields = [name for name in fields if (model, name) != ("session", "token")]
    columns = {name: naming.column(model, name) for name in fields}
    return {name: column for name, column in columns.items() if column}  # "" if the table lacks it


# For fragments of error messages in lower case: what the error means.
REASON_OF_MESSAGE = {
    "connection refused": "nothing listens there",
    "invalid response to ssl negotiation": "another program than PostgreSQL listens there",
    "timeout expired": "it does not answer in time",
    "connection timeout": "it does not answer in time",
    "translate host name": "its name is unknown",
    "name or service not known": "its name is unknown",
    "failed to resolve host": "its name is unknown",
    "certificate": "its certificate is not accepted",
    "no such file": "its socket or file does not exist",
    "unable to open database file": "its file cannot be opened",
    "server closed the connection": "it closed the connection",
    "does not support ssl": "it does not support TLS, but sslmode requires it",
}


def reason_of(error: BaseException) -> str:
    """Returns the reason of a failed connection.

    This is PostgreSQL's own message if there is one. The message of the client library is not shown, because
    it may quote a part of the password: a password in a wrong URL can be parsed as the port.
    """
    if message := re.search(r"FATAL:\s+([^\n]+)", str(error)):
        return message[1].rstrip(".")
    text = str(error).lower()
    known = (reason for fragment, reason in REASON_OF_MESSAGE.items() if fragment in text)
    return next(known, f"its URL cannot be used ({type(error).__name__})")
