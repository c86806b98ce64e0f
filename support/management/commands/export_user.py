import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from support.storage.deletion import export, has_anything


class Command(BaseCommand):
    help = "Writes all of one person's conversations, feedback and files as one JSON document."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="their id in Better Auth")
        parser.add_argument("--output", type=Path, metavar="FILE", help="a new file, instead of stdout")

    def handle(self, *, user_id: str, output: Path | None, **options: Any) -> None:
        if not has_anything(user_id):
            raise CommandError(f"There is nothing of a user {user_id!r}.")
        with closing(export(user_id)) as pieces:
            if output:
                _write_new(output, pieces)
                return
            try:
                for piece in pieces:
                    self.stdout.write(piece, ending="")
                self.stdout.flush()
            except BrokenPipeError:
                # The reader has left. What is still in the buffer must not fail again at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise CommandError("Nobody reads any further: the export is not complete.") from None


def _write_new(path: Path, pieces: Iterator[str]) -> None:
    """A new file, for its owner's eyes alone."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.writelines(pieces)
    except BaseException:  # half an export is none
        path.unlink()
        raise
