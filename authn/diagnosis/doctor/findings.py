"""The findings of an examination, and their outcome."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"  # the examination is not possible or not needed in this deployment


@dataclass(frozen=True, slots=True)
class Finding:
    """``message``: what was found. ``remedy``: what to do about it, with SQL and settings that can be copied.
    Neither text holds a secret."""

    outcome: Outcome
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """``outcome``: the worst outcome of its findings."""

    name: str
    findings: list[Finding]

    @property
    def outcome(self) -> Outcome:
        outcomes = {finding.outcome for finding in self.findings}
        worst_first = (Outcome.FAILURE, Outcome.WARNING, Outcome.OK, Outcome.SKIPPED)
        return next((outcome for outcome in worst_first if outcome in outcomes), Outcome.SKIPPED)


class ExaminationSkipped(Exception):
    """Ends an examination that is not possible or not needed. The message says why."""


def ok(message: str) -> Finding:
    return Finding(Outcome.OK, message)


def warning(message: str, remedy: str) -> Finding:
    return Finding(Outcome.WARNING, message, remedy)


def failure(message: str, remedy: str) -> Finding:
    return Finding(Outcome.FAILURE, message, remedy)
