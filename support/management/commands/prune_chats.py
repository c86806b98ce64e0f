import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from support.models import Thread
from support.storage.deletion import Removed, remove


def days(text: str) -> timedelta:
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise ArgumentTypeError(f"{text!r} is no number of days, such as 90d")
    return timedelta(days=int(text[:-1]))


class Command(BaseCommand):
    help = "Removes the conversations in which nothing has been said for a while, with all that is in them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--older-than", type=days, required=True, metavar="DAYS", help="since when: 90d")
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, *, older_than: timedelta, dry_run: bool, **options: Any) -> None:
        old = Thread.objects.quiet_since(timezone.now() - older_than)
        total = old.count()
        if dry_run:
            self.stdout.write(f"To be removed: {total} conversations.")
            return
        removed = Removed()
        try:
            for batch in remove(old):
                removed += batch
                self.stdout.write(f"{removed.threads} of {total} …")
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted. Removed so far: {removed}.", returncode=130) from None
        self.stdout.write(f"Removed: {removed}.")
