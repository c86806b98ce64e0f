"""Shared by the commands for stored data: the user, the words of a report, and two database errors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError, connections

from authn.conf import conf
from authn.diagnosis.doctor.deployment import reason_of, why_unreachable
from authn.management.terminal import CommandWithExample, printable
from authn.models import User
from support.storage.deletion import Deleted

UNDEFINED = {"42P01", "42703"}  # PostgreSQL's codes for a missing table and a missing column
DOCTOR = "Run manage.py betterauth doctor. It says what to do."


class HousekeepingCommand(CommandWithExample):
    """A command for stored conversations. It shows no traceback if the database or a table is missing."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what would be deleted, and delete nothing"
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except (OperationalError, InterfaceError) as exc:
            if sqlstate(exc):  # a statement failed, so the connection worked
                raise
            raise CommandError(f"The database cannot be reached: {reason_of(exc)}. {DOCTOR}") from exc
        except ProgrammingError as exc:
            if sqlstate(exc) not in UNDEFINED:
                raise
            raise CommandError(
                "The database is not migrated: a table or a column is missing. Run manage.py migrate."
            ) from exc

    def delete(self, batches: Iterable[Deleted], *, total: int | None = None) -> None:
        """Delete all batches, and report the sum. Ctrl-C stops it, and reports what was deleted so far.

        ``total``: the number of conversations, to show the progress.
        """
        deleted = Deleted()
        try:
            for batch in batches:
                deleted += batch
                if total is not None:
                    self.stdout.write(f"{deleted.threads} of {total} …")
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted. Deleted so far: {deleted}.", returncode=130) from None
        self.report(deleted, dry_run=False)

    def report(self, what: object, *, dry_run: bool) -> None:
        """Say what was deleted, or what would be deleted."""
        if dry_run:
            self.stdout.write(f"Would delete: {what}.")
            self.stdout.write("This was a dry run: nothing was deleted.")
        else:
            self.stdout.write(f"Deleted: {what}.", self.style.SUCCESS)


@dataclass(frozen=True, slots=True)
class Person:
    """The user whose data a command handles. ``description``: a sentence for the staff, with the id."""

    user_id: str
    description: str


def find_person(given: str) -> Person:
    """Find a user by id or by email address.

    An unknown id is accepted, because Better Auth may have deleted the account. Raises ``CommandError`` if no
    user, or more than one user, has the email address.
    """
    try:
        rows = list(User.objects.filter(id=given).values_list("id", "email", "name"))
        if not rows and "@" in given:
            rows = list(User.objects.filter(email__iexact=given).values_list("id", "email", "name"))
            exact = [row for row in rows if row[1] == given]
            rows = exact or rows
    except DatabaseError as exc:
        if why_unreachable(connections[conf.BETTER_AUTH_DATABASE]):
            raise
        if "@" in given:
            raise CommandError(
                "Better Auth's tables cannot be read, so give the user's id in place of the address. "
                + DOCTOR
            ) from exc
        return Person(given, f"User id {printable(given)}. Better Auth's tables cannot be read. {DOCTOR}")
    if len(rows) > 1:
        ids = ", ".join(printable(row[0]) for row in rows)
        raise CommandError(f"Several users have this email address. Give one of their ids: {ids}.")
    if rows:
        user_id, email, name = rows[0]
        return Person(user_id, f"User {printable(email)} ({printable(name)}), id {printable(user_id)}.")
    if "@" in given:
        raise CommandError(
            f"Better Auth has no user with the email address {given!r}. If the account was deleted, give the "
            "user's id."
        )
    return Person(given, f"User id {printable(given)}. Better Auth has no user with this id.")


def sqlstate(exc: BaseException) -> str:
    """Return PostgreSQL's code of the error. Empty if no connection was made, or if it was lost."""
    return getattr(exc.__cause__, "sqlstate", None) or ""
