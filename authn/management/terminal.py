"""What our commands show in a terminal: an example in ``--help``, and only printable characters."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class CommandWithExample(BaseCommand):
    """``example``: a useful call without ``manage.py``. ``--help`` shows it at its end."""

    example = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=epilog(self.example), **kwargs)


def epilog(example: str) -> str:
    return f"Example: manage.py {example}"


def printable(text: str) -> str:
    """Replaces control characters. A key set, a token or a user's name may hold characters that control the
    terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def counted(number: int, singular: str) -> str:
    """Returns "1 failure", "2 failures" and so on."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"
