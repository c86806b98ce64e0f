"""``manage.py sweep_attachments``: deletes attachments and files that are not in use. Run it every night.

It also closes the approvals of tools that nobody has decided in time. Until then, the database keeps the
state of each interrupted answer, which may contain attached files.
"""

import re
from argparse import ArgumentTypeError
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from support.files import stored_files
from support.management.housekeeping import HousekeepingCommand
from support.models import Attachment
from support.storage import approvals

BATCH = 500
SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def age(text: str) -> timedelta:
    if not re.fullmatch(r"[0-9]{1,5}[mhd]", text):
        raise ArgumentTypeError("write a number of minutes, hours or days, such as 30m, 12h or 1d")
    return timedelta(seconds=int(text[:-1]) * SECONDS[text[-1]])


class Command(HousekeepingCommand):
    help = (
        "Deletes attachments that no message carries, files that no attachment names, and the states of "
        "answers whose approval has expired."
    )
    example = "sweep_attachments --older-than 1d --dry-run"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--older-than",
            type=age,
            default="1d",
            help="keep younger ones, because users may still send them: 1d",
        )

    def handle(self, *args: Any, older_than: timedelta, dry_run: bool, **options: Any) -> None:
        before = timezone.now() - older_than
        attachments = _delete_unsent(before, dry_run)
        files = sum(len(names) if dry_run else stored_files.delete(names) for names in _unused_files(before))
        states = approvals.expired().count() if dry_run else approvals.close_expired()
        self.report(
            f"attachments that no message carries {attachments}, files of no attachment {files}, "
            f"states of expired approvals {states}",
            dry_run=dry_run,
        )


def _delete_unsent(before: datetime, dry_run: bool) -> int:
    unsent = Attachment.objects.filter(thread=None, created_at__lt=before)
    if dry_run:
        return unsent.count()
    deleted = 0
    while batch := list(unsent.order_by("created_at").values_list("id", flat=True)[:BATCH]):
        # Filter by ``unsent`` again: meanwhile, a message may carry one of these attachments.
        deleted += unsent.filter(id__in=batch).delete_with_files()
    return deleted


def _unused_files(before: datetime) -> Iterator[list[str]]:
    """Yield the names of our files that no row names, in batches.

    Ignores names that do not have our form, because the storage may contain other files. The minimum age
    protects the file of a running upload, because an upload stores the file before the row.
    """
    storage = stored_files.storage()
    for folder in _folders():
        names = [
            name
            for file in storage.listdir(folder)[1]
            if stored_files.NAME.fullmatch(name := f"{folder}/{file}")
        ]
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            named = set(Attachment.objects.filter(file__in=batch).values_list("file", flat=True))
            yield [name for name in batch if name not in named and _is_old(name, before)]


def _is_old(name: str, before: datetime) -> bool:
    try:
        return stored_files.storage().get_modified_time(name) < before
    except FileNotFoundError:  # the file was deleted meanwhile
        return False


def _folders() -> list[str]:
    try:
        return sorted(stored_files.storage().listdir("")[0])
    except FileNotFoundError:  # no file was ever stored
        return []
