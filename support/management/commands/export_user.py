import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from support.storage.export import export, has_data


class Command(BaseCommand):
    help = "Writes all conversations, feedback and files of one user as one JSON document."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user_id", help="the user's id in Better Auth")
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="write to this new file, not to stdout"
        )

    def handle(self, *, user_id: str, output: Path | None, **options: Any) -> None:
        if not has_data(user_id):
            raise CommandError(f"There are no conversations and no files of user {user_id!r}.")
        with closing(export(user_id)) as pieces:
            if output:
                _write_new(output, pieces)
                return
            try:
                for piece in pieces:
                    self.stdout.write(piece, ending="")
                self.stdout.flush()
            except BrokenPipeError:
                # At exit, Python writes the rest of its buffer to stdout. Into the closed pipe, this would
                # fail again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise CommandError("The reader closed the pipe: the export is not complete.") from None


def _write_new(path: Path, pieces: Iterator[str]) -> None:
    """Write a new file that only its owner can read. If an error occurs, delete the file."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.writelines(pieces)
    except BaseException:
        path.unlink()
        raise
