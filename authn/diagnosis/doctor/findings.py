"""What an examination says."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"  # it could not be looked at, or nothing here depends on it


@dataclass(frozen=True, slots=True)
class Finding:
    """``remedy``: what to do, ready to be copied where it is SQL or a variable. No secret in either."""

    outcome: Outcome
    message: str
    remedy: str = ""


class ExaminationSkipped(Exception):
    """Ends an examination that has nothing to look at; the text says why."""


def ok(message: str) -> Finding:
    return Finding(Outcome.OK, message)


def warning(message: str, remedy: str) -> Finding:
    return Finding(Outcome.WARNING, message, remedy)


def failure(message: str, remedy: str) -> Finding:
    return Finding(Outcome.FAILURE, message, remedy)
