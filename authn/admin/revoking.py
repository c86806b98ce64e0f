"""Ending sessions for somebody: the one write into Better Auth's tables there is.

A row of ``session`` is deleted, as Better Auth itself does on a sign-out. ``BetterAuthRouter`` refuses every
write and makes no exception: this module names the database and the statement itself, and has no other.
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

# Compared as text, as in authn.models: an id that no row can have ends nobody's session.
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
    """Whether our role may delete sessions, which one that only reads, or a replica, leaves to others."""
    connection = connections[conf.BETTER_AUTH_DATABASE]
    if connection.vendor != "postgresql":
        return False  # SQLite's file is opened to be read
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(Session._meta.db_table)
        cursor.execute(IS_POSSIBLE, [table])
        return bool(cursor.fetchone()[0])


def revoke(request: HttpRequest, session_ids: Iterable[str]) -> list[Revoked]:
    """End these sessions. Returns those that were there."""
    return _revoke(request, "id", list(session_ids))


def revoke_all_of(request: HttpRequest, user_id: str) -> list[Revoked]:
    return _revoke(request, "user_id", [user_id])


def _revoke(request: HttpRequest, attname: str, values: list[str]) -> list[Revoked]:
    # Written down or not done: two databases, perhaps, and Better Auth's is the first to commit.
    with transaction.atomic(), transaction.atomic(conf.BETTER_AUTH_DATABASE):
        revoked = _delete(attname, values)
        _log(request, revoked)
    for each in revoked:
        audit.revoked(request, each.user_id, each.session_id)
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
    """In the history of each session, whose page is gone with it, and of the user, where one looks."""
    ended: dict[str, list[Session]] = {}
    for each in revoked:
        ended.setdefault(each.user_id, []).append(Session(id=each.session_id, user_id=each.user_id))
    users = {user.id: user for user in User.objects.filter(id__stored=list(ended))}
    log, staff = LogEntry.objects.log_actions, cast(int, request.user.pk)
    for user_id, sessions in ended.items():
        log(staff, sessions, DELETION, f"Revoked, of user {user_id}.")
        user = users.get(user_id) or User(id=user_id, email=user_id)
        log(staff, [user], CHANGE, f"Revoked sessions: {', '.join(map(str, sessions))}.")
