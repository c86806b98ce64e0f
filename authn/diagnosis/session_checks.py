"""System checks of what callers show and of where their sessions are."""

import re
from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import (
    DataError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)
from django.db.models import Model

from authn.authentication import CREDENTIALS
from authn.conf import conf
from authn.models import Session, SigningKey, User

SIGNED = {"cookie", "bearer"}  # by Better Auth, with its secret
COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 6265 §4.1.1
NEWEST_SECRET = re.compile(r" *\d+ *: *[^, ]")  # 2:new,1:old
MISSING = "42P01"  # PostgreSQL's undefined_table
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    each = (_credentials, _secret, _cookie_name, _session_source)
    return [message for check in each for message in check()]


def check_tables(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Asks the database, so Django runs it for ``migrate`` and ``check --database`` alone, and the
    project before it serves. One that is down may be back for the first request."""
    if conf.BETTER_AUTH_DATABASE not in (databases or []):
        return []
    if connections[conf.BETTER_AUTH_DATABASE].vendor == "unknown":
        return []  # its address is wrong, and another check reports it
    try:
        faults = {model: _fault(model) for model in _models()}
    except (OperationalError, InterfaceError):
        return []
    if faults[User] == MISSING:
        return [
            checks.Warning(
                f"Better Auth's tables are not there: {User._meta.db_table} is missing.",
                hint="Run Better Auth's own migrations first: npx auth migrate.",
                id="authn.W001",
            )
        ]
    if faults.get(Session) == MISSING:
        return [
            Error(
                f"There are users but no sessions: {Session._meta.db_table} is missing. "
                "Better Auth makes no such table where it has a secondaryStorage.",
                hint="Set session.storeSessionInDatabase there and run its migrations, or name the Redis "
                "it uses: BETTER_AUTH_SESSION_SOURCE=redis://….",
                id="authn.E025",
            )
        ]
    return [
        checks.Warning(
            f"{model._meta.db_table} cannot be read as the settings describe it ({fault}).",
            hint="manage.py betterauth doctor says which table, column or right it is, and what to write.",
            id="authn.W002",
        )
        for model, fault in faults.items()
        if fault
    ]


def _models() -> list[type[Model]]:
    """Those whose tables are read."""
    sessions = [Session] if conf.BETTER_AUTH_SESSION_SOURCE == "database" else []
    keys = [SigningKey] if conf.BETTER_AUTH_KEYS == "database" else []
    return [User, *sessions, *keys]


def _fault(model: type[Model]) -> str:
    """PostgreSQL's code for what is wrong with the table, its columns or our rights; empty: nothing."""
    try:
        with transaction.atomic(conf.BETTER_AUTH_DATABASE):
            model._default_manager.first()
            if model is Session and SIGNED & set(conf.BETTER_AUTH_CREDENTIALS):
                Session.with_token("-").first()
    except (ProgrammingError, OperationalError) as exc:
        if "no such table" in str(exc):  # SQLite, which has no codes
            return MISSING
        if isinstance(exc, OperationalError) and "no such column" not in str(exc):
            raise
        return str(getattr(exc.__cause__, "sqlstate", "42703") or type(exc.__cause__).__name__)
    except DataError:  # one row's, such as a time of "infinity", and not the table's
        pass
    return ""


def _credentials() -> list[CheckMessage]:
    listed = conf.BETTER_AUTH_CREDENTIALS
    if listed and len(set(listed)) == len(listed) and set(listed) <= set(CREDENTIALS):
        return []
    return [
        Error(
            "BETTER_AUTH_CREDENTIALS does not say what callers may show.",
            hint=f"Write one or more of {', '.join(CREDENTIALS)}, each once; jwt is the default.",
            id="authn.E020",
        )
    ]


def _secret() -> list[CheckMessage]:
    if conf.BETTER_AUTH_SECRETS and not NEWEST_SECRET.match(conf.BETTER_AUTH_SECRETS):
        return [
            Error(
                "BETTER_AUTH_SECRETS is not written as Better Auth reads it.",
                hint="Write Better Auth's own value, the newest first: 2:new-secret,1:old-secret.",
                id="authn.E022",
            )
        ]
    if conf.BETTER_AUTH_SECRET or not SIGNED & set(conf.BETTER_AUTH_CREDENTIALS):
        return []
    return [
        Error(
            "BETTER_AUTH_SECRET is missing, and session tokens are verified with it.",
            hint="Write Better Auth's own secret, or leave cookie and bearer out of BETTER_AUTH_CREDENTIALS.",
            id="authn.E021",
        )
    ]


def _cookie_name() -> list[CheckMessage]:
    if COOKIE_NAME.fullmatch(conf.BETTER_AUTH_COOKIE_NAME.removeprefix("__Secure-")):
        return []
    return [
        Error(
            "BETTER_AUTH_COOKIE_NAME is no name of a cookie.",
            hint="Write it without __Secure-, such as better-auth.session_token.",
            id="authn.E024",
        )
    ]


def _session_source() -> list[CheckMessage]:
    source = conf.BETTER_AUTH_SESSION_SOURCE
    if source == "database" or (source.startswith(REDIS_SCHEMES) and _is_usable(source)):
        return []
    return [
        Error(
            "BETTER_AUTH_SESSION_SOURCE is neither database nor the address of a Redis.",
            hint="Write database, or redis://…, rediss://… or unix://… as of Better Auth's secondaryStorage.",
            id="authn.E023",
        )
    ]


def _is_usable(url: str) -> bool:
    from authn.credentials import secondary_storage  # with it, the server's start has loaded Redis' client

    return secondary_storage.usable(url)
