"""Whether the database answers, how many connections it has for us, and what time it is there."""

import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from authn.conf import conf, origin
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor, why_unreachable
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning

# Date headers and a loaded machine are no better than this.
CLOCK_TOLERANCE_SECONDS = 1.0

LIMITS = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""


def reachable(deployment: Deployment) -> Iterator[Finding]:
    """The one with Better Auth's tables and, where that is another, our own."""
    for alias in dict.fromkeys([conf.BETTER_AUTH_DATABASE, "default"]):
        database = connections[alias]
        is_better_auths = alias == conf.BETTER_AUTH_DATABASE
        if database.vendor == "unknown" and alias != "default":
            continue  # its address is wrong, and the examination of the settings has said so
        if alias == "default" and (fault := conf.DATABASE_FAULTS.get("DATABASE_URL")):
            yield failure(*fault)
        elif why := deployment.unreachable if is_better_auths else why_unreachable(database):
            variable = "DATABASE_URL" if alias == "default" else "BETTER_AUTH_DATABASE_URL"
            yield failure(
                f"{place(database)} cannot be reached: {why}.",
                f"Start the database, or write its address, role and password in {variable}.",
            )
        else:
            yield _known(database)


def _known(database: BaseDatabaseWrapper) -> Finding:
    with read_only_cursor(database.alias) as cursor:
        role = f" as {_one(cursor, 'SELECT current_user')}" if database.vendor == "postgresql" else ""
        version, least = database.get_database_version(), database.features.minimum_database_version or ()
    shown = f"{database.display_name} {'.'.join(map(str, version))}"
    if version < least:
        needed = ".".join(map(str, least))
        return failure(f"{shown} at {place(database)} is too old.", f"Django needs {needed} or newer.")
    return ok(f"{place(database)}{role}: {shown}.")


def connection_limit(deployment: Deployment) -> Iterator[Finding]:
    """What all our processes keep, against what the server gives out."""
    if deployment.unreachable:
        raise ExaminationSkipped("The database cannot be reached.")
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} has no connections to run out of.")
    # Two databases of one server share its connections; only the one with Better Auth's tables is asked.
    alike = {connections["default"], deployment.database}
    databases = sum(_server(each) == _server(deployment.database) for each in alike)
    kept = (settings.WORKER_THREADS + 1) * databases  # one is for /readyz, and is no worker's
    ours = kept * deployment.processes
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(LIMITS)
        most, reserved, *limits = cursor.fetchone()
    free = min([most - reserved, *(limit for limit in limits if limit is not None and limit >= 0)])
    processes = "1 process" if deployment.processes == 1 else f"each of {deployment.processes} processes"
    shown = f"The {kept} connections of {processes}"
    if ours > free:
        yield failure(
            f"{shown} are more than the server gives out, {free} "
            f"(max_connections {most}, {reserved} reserved).",
            f"WORKER_THREADS={max(1, free // (deployment.processes * databases) - 1)}, or raise "
            "max_connections and the limits of the role and the database.",
        )
    else:
        yield ok(f"{shown} fit in the {free} that the server gives out.")


def clocks(deployment: Deployment) -> Iterator[Finding]:
    """A token from a clock that is ahead is not valid yet; a session's end is told by ours alone."""
    leeway = conf.BETTER_AUTH_LEEWAY.total_seconds()
    if not deployment.unreachable and deployment.database.vendor == "postgresql":
        with read_only_cursor(deployment.database.alias) as cursor:
            asked_at = timezone.now()
            ahead = (_one(cursor, "SELECT clock_timestamp()") - asked_at).total_seconds()
        if abs(ahead) > leeway + CLOCK_TOLERANCE_SECONDS:
            hint = "Set both clocks by NTP; sessions end by this machine's."
            yield warning(f"The database server's clock is {_difference(ahead)}.", hint)
        else:
            yield ok(f"The database server's clock agrees to within {leeway:g} s.")
    if deployment.answer is None or deployment.answer.ahead is None:
        raise ExaminationSkipped("Better Auth does not answer.")
    ahead, host = deployment.answer.ahead, origin(conf.BETTER_AUTH_JWKS_URL)
    if abs(ahead) > leeway + CLOCK_TOLERANCE_SECONDS:
        result = "tokens are refused as not yet valid" if ahead > 0 else "tokens expire early"
        yield failure(
            f"The clock of {host} is {_difference(ahead)}: {result}.",
            f"Set both clocks by NTP, or for the time being "
            f"BETTER_AUTH_LEEWAY_SECONDS={math.ceil(abs(ahead)) + 1}",
        )
    else:
        yield ok(f"The clock of {host} agrees to within {leeway:g} s.")


def place(database: BaseDatabaseWrapper) -> str:
    """Where a database is, without who we are there."""
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
