"""Revokes sessions. Only this module writes to Better Auth's tables.

To revoke a session, it deletes the row, as Better Auth does on a sign-out. ``BetterAuthRouter`` refuses every
write through the ORM. So this module has its own SQL statement, and names the database itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.db import connections, transaction
from django.http import HttpRequest

from authn import audit
from authn.conf import conf
from authn.models import Session, User

# Compare ids as text, as in authn.models. Then an id of a wrong type matches no row and raises no error.
REVOKE = """
DELETE FROM {table} WHERE CAST({column} AS text) = ANY(%s)
RETURNING CAST({id} AS text), CAST({user_id} AS text)
"""

IS_POSSIBLE = (
    "SELECT has_table_privilege(%s, 'DELETE') AND NOT current_setting('transaction_read_only')::bool"
)


@dataclass(frozen=True, slots=True)
class Revoked:
    session_id: str
    user_id: str


def is_possible() -> bool:
    """Whether we can delete sessions: our database role has the grant, and the database is not a replica."""
    connection = connections[conf.BETTER_AUTH_DATABASE]
    if connection.vendor != "postgresql":
        return False  # SQLite's file is opened read-only
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(Session._meta.db_table)
        cursor.execute(IS_POSSIBLE, [table])
        return bool(cursor.fetchone()[0])


def revoke(request: HttpRequest, session_ids: Iterable[str]) -> list[Revoked]:
    """Delete these sessions, and return those that were deleted: other sessions had ended before."""
    return _revoke(request, "id", list(session_ids))


def revoke_all_of(request: HttpRequest, user_id: str) -> list[Revoked]:
    return _revoke(request, "user_id", [user_id])


def _revoke(request: HttpRequest, attname: str, values: list[str]) -> list[Revoked]:
    # No session may be deleted without an entry in the admin's history. So an error rolls back both
    # transactions. If they are in two databases, Better Auth's commits first.
    with transaction.atomic(), transaction.atomic(conf.BETTER_AUTH_DATABASE):
        revoked = _delete(attname, values)
        _log(request, revoked)
    for each in revoked:
        audit.log_revoked(request, each.user_id, each.session_id)
    return revoked


def _delete(attname: str, values: list[str]) -> list[Revoked]:
    connection = connections[conf.BETTER_AUTH_DATABASE]
    quote: Callable[[Any], str] = connection.ops.quote_name
    columns = {field.attname: quote(field.column) for field in Session._meta.concrete_fields}
    statement = REVOKE.format(
        table=quote(Session._meta.db_table),
        column=columns[attname],
        id=columns["id"],
        user_id=columns["user_id"],
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [values])
        return [Revoked(*row) for row in cursor.fetchall()]


def _log(request: HttpRequest, revoked: list[Revoked]) -> None:
    """Write to the admin's history of each session, and of its user: the session's page no longer exists."""
    by_user: dict[str, list[Session]] = {}
    for each in revoked:
        by_user.setdefault(each.user_id, []).append(Session(id=each.session_id, user_id=each.user_id))
    users = {user.id: user for user in User.objects.filter(id__stored=list(by_user))}
    log, staff = LogEntry.objects.log_actions, cast(int, request.user.pk)
    for user_id, sessions in by_user.items():
        log(staff, sessions, DELETION, f"Revoked, of user {user_id}.")
        user = users.get(user_id) or User(id=user_id, email=user_id)
        log(staff, [user], CHANGE, f"Revoked sessions: {', '.join(map(str, sessions))}.")
