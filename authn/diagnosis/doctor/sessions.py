"""Examines whether Better Auth stores its sessions in the table or the Redis that the settings name."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import quoted
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.diagnosis.doctor.tables import columns_of

MAX_SCANNED_KEYS, KEYS_PER_SCAN = 100_000, 1000  # of the Redis, to find the prefix of Better Auth's keys
MAX_SIGN_UP_DURATION = timedelta(minutes=1)  # from the creation of a user to the user's first session
TIMEOUTS: dict[str, Any] = {"socket_connect_timeout": 3.0, "socket_timeout": 3.0}


def session_table(deployment: Deployment) -> Iterator[Finding]:
    """Examines whether the session table gets new rows.

    If Better Auth has a secondaryStorage, it writes no sessions to the table. But old rows may remain there.
    """
    if conf.BETTER_AUTH_SESSION_SOURCE != "database":
        raise ExaminationSkipped("We do not use the table: BETTER_AUTH_SESSION_SOURCE is a Redis.")
    users, sessions = deployment.catalogue.found("user"), deployment.catalogue.found("session")
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} is only for development.")
    if users is None or sessions is None:
        raise ExaminationSkipped("The user table or the session table is missing.")
    user_created = columns_of("user", users).get("createdAt", "")
    session_created = columns_of("session", sessions).get("createdAt", "")
    if user_created not in users.readable or session_created not in sessions.readable:
        raise ExaminationSkipped("A column createdAt is missing, or our role may not read it.")
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(
            f"SELECT (SELECT max({quoted(user_created)}) FROM {users.sql}), "  # noqa: S608 - names of the catalogue
            f"(SELECT max({quoted(session_created)}) FROM {sessions.sql})"
        )
        newest_user, newest_session = cursor.fetchone()
    if newest_user is None:
        yield ok("Nobody has signed up yet.")
    elif newest_session is None or newest_user - newest_session > MAX_SIGN_UP_DURATION:
        since = f"since {newest_session:%Y-%m-%d %H:%M}" if newest_session else "at all"
        yield warning(
            f"Users have signed up, but {sessions} has no new row {since}. If they have not all signed out, "
            "Better Auth stores its sessions in its secondaryStorage.",
            "Set session: { storeSessionInDatabase: true } in Better Auth, or set "
            "BETTER_AUTH_SESSION_SOURCE=redis://…",
        )
    else:
        yield ok(f"The newest row of {sessions} is from {newest_session:%Y-%m-%d %H:%M}.")


def secondary_storage(deployment: Deployment) -> Iterator[Finding]:
    """Examines whether the Redis has sessions under the prefix of the settings.

    The findings do not show the URL of the Redis, because it may hold a password.
    """
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        raise ExaminationSkipped("Sessions are in the database.")
    import redis  # imported here, because most deployments do not need it

    prefix = conf.BETTER_AUTH_SESSION_PREFIX
    try:
        with closing(redis.Redis.from_url(conf.BETTER_AUTH_SESSION_SOURCE, **TIMEOUTS)) as client:
            client.mget([f"{prefix}active-sessions-"])  # the only command that the server uses
            prefixes = _prefixes(client, prefix)
    except (redis.RedisError, ValueError, TypeError) as exc:
        yield failure(
            f"The Redis of BETTER_AUTH_SESSION_SOURCE cannot be read ({type(exc).__name__}).",
            "Start it, or set BETTER_AUTH_SESSION_SOURCE to the URL of Better Auth's secondaryStorage, "
            "with its password and database number.",
        )
        return
    if prefix in prefixes:
        yield ok("The Redis of BETTER_AUTH_SESSION_SOURCE has sessions of Better Auth.")
    elif prefixes:
        yield failure(
            f"The Redis has Better Auth's sessions, but none with the prefix {prefix or '(empty)'}.",
            f"BETTER_AUTH_SESSION_PREFIX={prefixes[0]}",
        )
    else:
        yield warning(
            "The Redis of BETTER_AUTH_SESSION_SOURCE has no session of Better Auth.",
            "Sign in once and run this again. If there is still none, Better Auth uses another Redis.",
        )


def _prefixes(client: Any, wanted: str) -> list[str]:
    """Returns the prefixes of Better Auth's keys in the Redis. Stops if it finds the wanted prefix.

    Scans at most MAX_SCANNED_KEYS keys. scan_iter would scan the whole Redis if no key matches, and other
    programs may store very many keys in it.
    """
    from redis.exceptions import NoPermissionError

    found: list[str] = []
    position = 0
    try:
        for _ in range(MAX_SCANNED_KEYS // KEYS_PER_SCAN):
            position, names = client.scan(position, "*active-sessions-*", KEYS_PER_SCAN)
            found += [name.decode(errors="replace").partition("active-sessions-")[0] for name in names]
            if position == 0 or wanted in found:
                break
    except NoPermissionError:
        raise ExaminationSkipped("Our Redis user may not scan the keys.") from None
    return found
