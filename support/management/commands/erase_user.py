from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from support.storage.deletion import Removed, erase


class Command(BaseCommand):
    help = (
        "Removes all of one person's conversations and files for good. Delete their account in Better Auth "
        "first, or they may go on chatting meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="their id in Better Auth")

    def handle(self, *, user_id: str, **options: Any) -> None:
        removed = sum(erase(user_id), Removed())
        if removed == Removed():
            raise CommandError(f"There is nothing of a user {user_id!r}.")
        self.stdout.write(f"Removed of user {user_id}: {removed}.")
