import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from support.management.housekeeping import HousekeepingCommand, find_person
from support.models import Attachment, Thread
from support.storage.deletion import Deleted, count, delete_user_data


class Command(HousekeepingCommand):
    help = (
        "Deletes all conversations and files of one user for good. Delete the account in Better Auth first: "
        "otherwise the user can write new messages meanwhile. Asks before it deletes."
    )
    example = "erase_user ada@example.com --dry-run"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", help="the user's id in Better Auth, or their email address")
        parser.add_argument(
            *("--yes", "-y", "--no-input", "--noinput"),
            action="store_true",
            dest="yes",
            help="delete without a question, as in a script",
        )

    def handle(self, *, user: str, yes: bool, dry_run: bool, **options: Any) -> None:
        person = find_person(user)
        stored = count(Thread.objects.owned_by(person.user_id), Attachment.objects.owned_by(person.user_id))
        if stored == Deleted():
            raise CommandError(f"{person.description} There are no conversations and no files.")
        self.stdout.write(person.description)
        if dry_run:
            self.report(stored, dry_run=True)
            return
        if not yes:
            self._ask(stored)
        self.delete(delete_user_data(person.user_id))

    def _ask(self, stored: Deleted) -> None:
        if not sys.stdin.isatty():
            raise CommandError("Nothing was deleted: nobody can answer the question. Add --yes to delete.")
        self.stdout.write(f"This will be deleted for good: {stored}.", self.style.WARNING)
        try:
            answer = input("Type yes to delete it: ")
        except (EOFError, KeyboardInterrupt):
            answer = ""
        if answer.strip().lower() != "yes":
            raise CommandError("Nothing was deleted.")
