"""Whether the sessions that people have are where they are looked for."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import quoted
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.diagnosis.doctor.tables import columns_of

MOST_KEYS, KEYS_AT_ONCE = 100_000, 1000  # of a Redis, looked through for one that shows the prefix
SIGN_UP_TAKES = timedelta(minutes=1)
PATIENCE: dict[str, Any] = {"socket_connect_timeout": 3.0, "socket_timeout": 3.0}


def session_table(deployment: Deployment) -> Iterator[Finding]:
    """With a secondaryStorage Better Auth goes on without this table, which then is an old one."""
    if conf.BETTER_AUTH_SESSION_SOURCE != "database":
        raise ExaminationSkipped("The table is not read: BETTER_AUTH_SESSION_SOURCE names a Redis.")
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} is for one person's laptop.")
    users, sessions = deployment.catalogue.found("user"), deployment.catalogue.found("session")
    if users is None or sessions is None:
        raise ExaminationSkipped("There is no table of users, or of sessions.")
    user_made = columns_of("user", users).get("createdAt", "")
    session_made = columns_of("session", sessions).get("createdAt", "")
    if user_made not in users.readable or session_made not in sessions.readable:
        raise ExaminationSkipped("The columns it would take are not there, or not to be read.")
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(
            f"SELECT (SELECT max({quoted(user_made)}) FROM {users.sql}), "  # noqa: S608 - names of the catalogue
            f"(SELECT max({quoted(session_made)}) FROM {sessions.sql})"
        )
        newest_user, newest_session = cursor.fetchone()
    if newest_user is None:
        yield ok("Nobody has signed up yet.")
    elif newest_session is None or newest_user - newest_session > SIGN_UP_TAKES:
        since = f"since {newest_session:%Y-%m-%d %H:%M}" if newest_session else "at all"
        yield warning(
            f"Users have signed up, and {sessions} has no new row {since}: unless they have all signed out, "
            "Better Auth keeps its sessions in its secondaryStorage.",
            "Give Better Auth session: { storeSessionInDatabase: true }; or BETTER_AUTH_SESSION_SOURCE=redis://…",
        )
    else:
        yield ok(f"The newest row of {sessions} is of {newest_session:%Y-%m-%d %H:%M}.")


def secondary_storage(deployment: Deployment) -> Iterator[Finding]:
    """Its address is not shown: it may hold a password."""
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        raise ExaminationSkipped("Sessions are in the database.")
    import redis  # nobody else needs it

    prefix = conf.BETTER_AUTH_SESSION_PREFIX
    try:
        with closing(redis.Redis.from_url(conf.BETTER_AUTH_SESSION_SOURCE, **PATIENCE)) as client:
            client.mget([f"{prefix}active-sessions-"])  # all that the server itself has to be allowed
            names = _prefixes(client, prefix)
    except (redis.RedisError, ValueError, TypeError) as exc:
        yield failure(
            f"The Redis of BETTER_AUTH_SESSION_SOURCE cannot be read ({type(exc).__name__}).",
            "Start it, or write the address, password and number of Better Auth's secondaryStorage there.",
        )
        return
    if prefix in names:
        yield ok("The Redis of BETTER_AUTH_SESSION_SOURCE has sessions of Better Auth.")
    elif names:
        yield failure(
            f"The Redis has Better Auth's sessions, but none under {prefix or 'no prefix'}.",
            f"BETTER_AUTH_SESSION_PREFIX={names[0]}",
        )
    else:
        yield warning(
            "The Redis of BETTER_AUTH_SESSION_SOURCE has no session of Better Auth.",
            "Sign in once and run this again; if there is still none, Better Auth has another Redis.",
        )


def _prefixes(client: Any, wanted: str) -> list[str]:
    """What stands before Better Auth's own names. Not by scan_iter: where nothing matches, that goes
    through the whole of a Redis that others fill as well."""
    from redis.exceptions import NoPermissionError

    found: list[str] = []
    position = 0
    try:
        for _ in range(MOST_KEYS // KEYS_AT_ONCE):
            position, names = client.scan(position, "*active-sessions-*", KEYS_AT_ONCE)
            found += [name.decode(errors="replace").partition("active-sessions-")[0] for name in names]
            if position == 0 or wanted in found:
                break
    except NoPermissionError:
        raise ExaminationSkipped("The Redis lets us read, and not look through its keys.") from None
    return found
