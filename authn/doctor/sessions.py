"""Whether the sessions that people have are the ones in the table."""

from collections.abc import Iterator
from datetime import timedelta

from authn.doctor.catalogue import quoted
from authn.doctor.findings import CannotLook, Finding, ok, warning
from authn.doctor.patient import Patient, looking
from authn.doctor.tables import columns_of

SIGN_UP_TAKES = timedelta(minutes=1)


def in_the_table(patient: Patient) -> Iterator[Finding]:
    """With a secondaryStorage Better Auth goes on without this table, which then is an old one."""
    if patient.database.vendor != "postgresql":
        raise CannotLook(f"{patient.database.display_name} is for one person's laptop.")
    users, sessions = patient.catalogue.found("user"), patient.catalogue.found("session")
    if users is None or sessions is None:
        raise CannotLook("There is no table of users, or of sessions.")
    user_made = columns_of("user", users).get("createdAt", "")
    session_made = columns_of("session", sessions).get("createdAt", "")
    if user_made not in users.readable or session_made not in sessions.readable:
        raise CannotLook("The columns it would take are not there, or not to be read.")
    with looking(patient.database.alias) as cursor:
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
            "Give Better Auth session: { storeSessionInDatabase: true }.",
        )
    else:
        yield ok(f"The newest row of {sessions} is of {newest_session:%Y-%m-%d %H:%M}.")
