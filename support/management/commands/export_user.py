import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from authn.management.terminal import counted
from support.management.housekeeping import HousekeepingCommand, find_person
from support.storage.export import Exported, export, has_data


class Command(HousekeepingCommand):
    help = "Writes all conversations, feedback and files of one user as one JSON document."
    example = "export_user ada@example.com --output ada.json"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the user's id in Better Auth, or their email address")
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="write to this new file, not to stdout"
        )

    def handle(self, *, user: str, output: Path | None, **options: Any) -> None:
        person = find_person(user)
        if not has_data(person.user_id):
            raise CommandError(f"{person.description} There are no conversations and no files.")
        # Without --output, stdout is the document.
        (self.stdout if output else self.stderr).write(person.description, str)
        pieces = export(person.user_id)
        try:
            if output:
                written = _write_new(output, pieces)
                size = counted(output.stat().st_size, "byte")
                self.stdout.write(f"Wrote {output}: {written}, {size}.", self.style.SUCCESS)
                return
            for piece in pieces:
                self.stdout.write(piece, ending="")
            self.stdout.flush()
        except BrokenPipeError:
            # At exit, Python writes the rest of its buffer to stdout. Into the closed pipe, this would fail
            # again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("The reader closed the pipe: the export is not complete.") from None
        finally:
            pieces.close()


def _write_new(path: Path, pieces: Generator[str, None, Exported]) -> Exported:
    """Write a new file that only its owner can read. If an error occurs, delete the file."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc
    try:
        with open(handle, "w", encoding="utf-8") as file:
            while True:
                try:
                    file.write(next(pieces))
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
    except BaseException:
        path.unlink()
        raise
