"""Examines whether the databases answer, their number of connections, and the clocks."""

import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from authn.conf import conf, origin
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor, why_unreachable
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning

# A Date header has whole seconds, and a busy machine delays the comparison.
CLOCK_TOLERANCE_SECONDS = 1.0

LIMITS = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""


def reachable(deployment: Deployment) -> Iterator[Finding]:
    """Connects to Better Auth's database and, if that is another database, to our own."""
    for database in dict.fromkeys([deployment.database, connections["default"]]):
        alias = database.alias
        is_better_auths = alias == conf.BETTER_AUTH_DATABASE
        if alias == "default" and (fault := conf.DATABASE_FAULTS.get("DATABASE_URL")):
            yield failure(*fault)
        elif database.vendor == "unknown":
            if alias != "default" or not apps.is_installed("chatbackend"):
                continue  # the examination "settings" reports it, or a project has no such database
            yield failure(
                "DATABASE_URL is not the address of a PostgreSQL database.",
                "Write an address such as postgresql://user:password@localhost:5432/name. In the user's name "
                "and the password, write %40 for @, %2F for / and %3F for ?.",
            )
        elif why := deployment.unreachable if is_better_auths else why_unreachable(database):
            variable = "DATABASE_URL" if alias == "default" else "BETTER_AUTH_DATABASE_URL"
            yield failure(
                f"{name_and_server(database)} cannot be reached: {why}.",
                f"Start the database, or set {variable} to its host, port, role and password.",
            )
        else:
            yield _version(database)


def _version(database: BaseDatabaseWrapper) -> Finding:
    with read_only_cursor(database.alias) as cursor:
        role = f" as {_one(cursor, 'SELECT current_user')}" if database.vendor == "postgresql" else ""
        version, least = database.get_database_version(), database.features.minimum_database_version or ()
    shown = f"{database.display_name} {'.'.join(map(str, version))}"
    if version < least:
        needed = ".".join(map(str, least))
        message = f"{shown} at {name_and_server(database)} is too old."
        return failure(message, f"Django needs {needed} or newer.")
    return ok(f"{name_and_server(database)}{role}: {shown}.")


def connection_limit(deployment: Deployment) -> Iterator[Finding]:
    """Compares the connections of all our processes to the server's limit."""
    if deployment.unreachable:
        raise ExaminationSkipped("The database cannot be reached.")
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} has no limit of connections.")
    threads = getattr(settings, "WORKER_THREADS", None)
    if threads is None:
        raise ExaminationSkipped("There is no setting WORKER_THREADS, so the number of threads is not known.")
    # Two databases on one server share its connections. We query only Better Auth's database.
    ours = {connections["default"], deployment.database}
    databases = sum(_server(each) == _server(deployment.database) for each in ours)
    # One connection for each worker thread, and one for /readyz.
    per_process = (threads + 1) * databases
    needed = per_process * deployment.processes
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(LIMITS)
        maximum, reserved, *limits = cursor.fetchone()
    available = min([maximum - reserved, *(limit for limit in limits if limit is not None and limit >= 0)])
    processes = "1 process" if deployment.processes == 1 else f"each of {deployment.processes} processes"
    shown = f"The {per_process} connections of {processes}"
    if needed > available:
        yield failure(
            f"{shown} are more than the {available} that the server allows "
            f"(max_connections {maximum}, {reserved} reserved).",
            f"WORKER_THREADS={max(1, available // (deployment.processes * databases) - 1)}, or raise "
            "max_connections and the limits of the role and the database.",
        )
    else:
        yield ok(f"{shown} fit in the {available} that the server allows.")


def clocks(deployment: Deployment) -> Iterator[Finding]:
    """Compares our clock to the clocks of the database server and of Better Auth.

    If Better Auth's clock is ahead of ours, its JWTs are not valid yet. Our own clock, and not the database
    server's, decides when a session ends.
    """
    leeway = conf.BETTER_AUTH_LEEWAY.total_seconds()
    if not deployment.unreachable and deployment.database.vendor == "postgresql":
        with read_only_cursor(deployment.database.alias) as cursor:
            sent_at = timezone.now()
            ahead = (_one(cursor, "SELECT clock_timestamp()") - sent_at).total_seconds()
        if abs(ahead) > leeway + CLOCK_TOLERANCE_SECONDS:
            remedy = "Synchronize both clocks with NTP. This machine's clock decides when a session ends."
            yield warning(f"The database server's clock is {_difference(ahead)}.", remedy)
        else:
            yield ok(f"The database server's clock agrees to within {leeway:g} s.")
    if deployment.jwks_response is None or deployment.jwks_response.clock_ahead is None:
        raise ExaminationSkipped("Better Auth does not answer.")
    ahead, host = deployment.jwks_response.clock_ahead, origin(conf.BETTER_AUTH_JWKS_URL)
    if abs(ahead) > leeway + CLOCK_TOLERANCE_SECONDS:
        result = "tokens are refused as not yet valid" if ahead > 0 else "tokens expire early"
        yield failure(
            f"The clock of {host} is {_difference(ahead)}: {result}.",
            f"Synchronize both clocks with NTP, or until then set "
            f"BETTER_AUTH_LEEWAY_SECONDS={math.ceil(abs(ahead)) + 1}",
        )
    else:
        yield ok(f"The clock of {host} agrees to within {leeway:g} s.")


def name_and_server(database: BaseDatabaseWrapper) -> str:
    """Returns the database's name and server, without our role and password."""
    name = str(database.settings_dict["NAME"])
    if database.vendor == "sqlite":
        return unquote(name.removeprefix("file:").partition("?")[0])
    return f"{name} at {_server(database)}" if name else "The database"


def _server(database: BaseDatabaseWrapper) -> str:
    parts = (database.settings_dict["HOST"], database.settings_dict["PORT"])
    return ":".join(str(part) for part in parts if part) or "the local socket"


def _difference(ahead: float) -> str:
    amount = f"{abs(ahead):.0f} s" if abs(ahead) < 600 else f"{abs(ahead) / 60:.0f} min"
    return f"{amount} {'ahead of' if ahead > 0 else 'behind'} ours"


def _one(cursor: Any, statement: str) -> Any:
    cursor.execute(statement)
    return cursor.fetchone()[0]
