import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from support.models import Thread
from support.storage.deletion import Deleted, delete_threads


def days(text: str) -> timedelta:
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise ArgumentTypeError(f"{text!r} is not a number of days, such as 90d")
    return timedelta(days=int(text[:-1]))


class Command(BaseCommand):
    help = "Deletes the conversations that have had no new message for some time, with their files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=days,
            required=True,
            metavar="DAYS",
            help="without a new message for this long: 90d",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count the conversations")

    def handle(self, *, older_than: timedelta, dry_run: bool, **options: Any) -> None:
        old = Thread.objects.inactive_since(timezone.now() - older_than)
        total = old.count()
        if dry_run:
            self.stdout.write(f"Would delete {total} conversations.")
            return
        deleted = Deleted()
        try:
            for batch in delete_threads(old):
                deleted += batch
                self.stdout.write(f"{deleted.threads} of {total} …")
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted. Deleted so far: {deleted}.", returncode=130) from None
        self.stdout.write(f"Deleted: {deleted}.")
