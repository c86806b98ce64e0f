"""Checks of Better Auth's tables: the settings that describe them, and the tables themselves."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import PermissionDenied
from django.db import (
    DataError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    router,
    transaction,
)
from django.db.models import Model

from authn import models
from authn.conf import conf
from authn.diagnosis.checks.credentials import SESSION_TOKEN_CREDENTIALS
from authn.models import PLUGINS, Session, SigningKey, User
from authn.tables import naming

UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"  # error codes of PostgreSQL


def check_plugins() -> list[CheckMessage]:
    unknown = sorted(set(conf.BETTER_AUTH_PLUGINS) - set(PLUGINS))
    if not unknown:
        return []
    return [
        Error(
            f"BETTER_AUTH_PLUGINS has plugins that we do not use: {', '.join(unknown)}.",
            hint=f"List only plugins whose columns we read: {', '.join(PLUGINS)}.",
            id="authn.E006",
        )
    ]


def check_names() -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    if conf.BETTER_AUTH_NAMING not in ("camel", "snake"):
        errors.append(
            Error(
                "BETTER_AUTH_NAMING is neither camel nor snake.",
                hint="Drizzle's columns are snake (expires_at). Kysely's and Prisma's are camel (expiresAt).",
                id="authn.E008",
            )
        )
    known = {"BETTER_AUTH_TABLES": set(naming.MODELS), "BETTER_AUTH_COLUMNS": naming.fields}
    for setting, names in known.items():
        for name, given in getattr(conf, setting).items():
            if name in names and (given or name in naming.OPTIONAL_FIELDS) and '"' not in given:
                continue
            errors.append(
                Error(
                    f"{setting} has a wrong entry for {name}.",
                    hint=f"Write {name}= and its name in your database. Names: {', '.join(sorted(names))}.",
                    id="authn.E009",
                )
            )
    return errors


def check_database() -> list[CheckMessage]:
    if conf.BETTER_AUTH_DATABASE not in settings.DATABASES:
        return [
            Error(
                f"BETTER_AUTH_DATABASE={conf.BETTER_AUTH_DATABASE} is not an alias of DATABASES.",
                hint="Write the alias of the database with Better Auth's tables. There are: "
                f"{', '.join(settings.DATABASES)}.",
                id="authn.E028",
            )
        ]
    alias = settings.DATABASES[conf.BETTER_AUTH_DATABASE]
    if fault := conf.DATABASE_FAULTS.get("BETTER_AUTH_DATABASE_URL"):
        return [Error(fault[0], hint=fault[1], id="authn.E017")]
    # The app chatbackend checks the default database. A second alias that differs only in its time zone uses
    # the same variable DATABASE_URL, so do not report that again here.
    has_chatbackend = apps.is_installed("chatbackend")
    is_ours = not (has_chatbackend and conf.BETTER_AUTH_DATABASE == "default")
    # Not the name of the engine: PostGIS and others have another one.
    vendor = connections[conf.BETTER_AUTH_DATABASE].vendor if alias.get("ENGINE") else "unknown"
    if (
        is_ours
        and "DATABASE_URL" not in conf.DATABASE_FAULTS
        and (vendor not in ("postgresql", "sqlite") or not alias.get("NAME"))
    ):
        name = "BETTER_AUTH_DATABASE_URL" if has_chatbackend else f"DATABASES[{conf.BETTER_AUTH_DATABASE!r}]"
        return [
            Error(
                f"{name} is not a PostgreSQL or SQLite database.",
                hint="Write a URL such as postgresql://reader:password@localhost:5432/name "
                "or sqlite:////srv/auth.db.",
                id="authn.E011",
            )
        ]
    return []


def check_routers() -> list[CheckMessage]:
    models = apps.get_app_config(User._meta.app_label).get_models()
    if not all(_is_write_refused(model) for model in models):
        return [
            Error(
                "DATABASE_ROUTERS lets code write to Better Auth's tables.",
                hint='DATABASE_ROUTERS = ["authn.tables.routers.BetterAuthRouter"]. Put it before other '
                "routers.",
                id="authn.E029",
            )
        ]
    if any(router.db_for_read(model) != conf.BETTER_AUTH_DATABASE for model in (User, Session, SigningKey)):
        return [
            Error(
                "DATABASE_ROUTERS sends the reads of Better Auth's tables to another database.",
                hint="Put authn.tables.routers.BetterAuthRouter first. A replica shows sessions too late.",
                id="authn.E012",
            )
        ]
    return []


def _is_write_refused(model: type[Model]) -> bool:
    try:
        router.db_for_write(model)
    except PermissionDenied:
        return True
    return False


def check_time_zone() -> list[CheckMessage]:
    if not settings.USE_TZ:
        return [
            Error(
                "USE_TZ is False. Then times have no zone, and an ended session may look active.",
                hint="USE_TZ = True. This is Django's default since 5.0.",
                id="authn.E030",
            )
        ]
    name = settings.DATABASES.get(conf.BETTER_AUTH_DATABASE, {}).get("TIME_ZONE")
    try:
        ZoneInfo("UTC" if name is None else name)
    except (ValueError, OSError, KeyError):
        return [
            Error(
                f"BETTER_AUTH_TIME_ZONE={name} is not a time zone.",
                hint="Write the time zone of the Node process that fills columns without a zone, such as "
                "Asia/Kolkata.",
                id="authn.E010",
            )
        ]
    return []


CHECKS = (check_plugins, check_names, check_database, check_routers, check_time_zone)


def check_tables(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Checks that the tables can be read as the settings describe them.

    It queries the database. So Django runs it only for ``migrate`` and ``check --database``. chatbackend also
    runs it when the server starts.

    An unreachable database is not reported, because it may be reachable again at the first request.
    """
    if conf.BETTER_AUTH_DATABASE not in (databases or []):
        return []
    if connections[conf.BETTER_AUTH_DATABASE].vendor == "unknown":
        return []  # its URL is wrong, and check_database reports it
    try:
        errors = {model: _error_code(model) for model in _needed_models()}
    except (OperationalError, InterfaceError):
        return []
    if errors[User] == UNDEFINED_TABLE:
        return [
            checks.Warning(
                f"Better Auth's tables do not exist: {User._meta.db_table} is missing.",
                hint="Run Better Auth's own migrations first: npx auth migrate.",
                id="authn.W001",
            )
        ]
    if errors.get(Session) == UNDEFINED_TABLE:
        return [
            Error(
                f"There are users but no sessions: {Session._meta.db_table} is missing. "
                "Better Auth makes no such table if it has a secondaryStorage.",
                hint="Set session.storeSessionInDatabase in Better Auth and run its migrations, or name its "
                "Redis: BETTER_AUTH_SESSION_SOURCE=redis://….",
                id="authn.E025",
            )
        ]
    return [
        checks.Warning(
            f"{model._meta.db_table} cannot be read as the settings describe it ({code}).",
            hint="Run manage.py betterauth doctor. It names the table, column or grant, and what to write.",
            id="authn.W002",
        )
        for model, code in errors.items()
        if code
    ]


def _needed_models() -> list[type[Model]]:
    sessions = [Session] if conf.BETTER_AUTH_SESSION_SOURCE == "database" else []
    keys = [SigningKey] if conf.BETTER_AUTH_KEYS == "database" else []
    members = [models.Member] if naming.is_declared("member") else []
    is_oauth = naming.is_declared("oauthAccessToken")
    oauth = [models.OAuthAccessToken, models.OAuthClient, models.OAuthConsent] if is_oauth else []
    return [User, *sessions, *keys, *members, *oauth]


def _error_code(model: type[Model]) -> str:
    """Reads the table, and returns the code of PostgreSQL's error, or ""."""
    try:
        with transaction.atomic(conf.BETTER_AUTH_DATABASE):
            model._default_manager.first()
            if model is Session and SESSION_TOKEN_CREDENTIALS & set(conf.BETTER_AUTH_CREDENTIALS):
                Session.with_token("-").first()
            if model is getattr(models, "OAuthAccessToken", None):
                models.OAuthAccessToken.with_hash("-").first()
    except (ProgrammingError, OperationalError) as exc:
        if "no such table" in str(exc):  # SQLite has no codes
            return UNDEFINED_TABLE
        if isinstance(exc, OperationalError) and "no such column" not in str(exc):
            raise
        return str(getattr(exc.__cause__, "sqlstate", UNDEFINED_COLUMN) or type(exc.__cause__).__name__)
    except DataError:  # one row cannot be read, such as the time "infinity"; the table is right
        pass
    return ""
