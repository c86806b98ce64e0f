import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from support.management.housekeeping import HousekeepingCommand
from support.models import Attachment, Thread
from support.storage.deletion import count, delete_threads


def days(text: str) -> timedelta:
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise ArgumentTypeError(f"{text!r} is not a number of days, such as 90d")
    return timedelta(days=int(text[:-1]))


class Command(HousekeepingCommand):
    help = "Deletes the conversations that have had no new message for some time, with their files."
    example = "prune_chats --older-than 90d --dry-run"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--older-than",
            type=days,
            required=True,
            metavar="DAYS",
            help="without a new message for this long: 90d",
        )

    def handle(self, *, older_than: timedelta, dry_run: bool, **options: Any) -> None:
        old = Thread.objects.inactive_since(timezone.now() - older_than)
        if dry_run:
            self.report(count(old, Attachment.objects.filter(thread__in=old)), dry_run=True)
            return
        self.delete(delete_threads(old), total=old.count())
