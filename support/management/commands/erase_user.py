from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from support.storage.deletion import Deleted, delete_user_data


class Command(BaseCommand):
    help = (
        "Deletes all conversations and files of one user for good. Delete the account in Better Auth first: "
        "otherwise the user can write new messages meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="the user's id in Better Auth")

    def handle(self, *, user_id: str, **options: Any) -> None:
        deleted = sum(delete_user_data(user_id), Deleted())
        if deleted == Deleted():
            raise CommandError(f"There are no conversations and no files of user {user_id!r}.")
        self.stdout.write(f"Deleted of user {user_id}: {deleted}.")
