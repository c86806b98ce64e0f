"""The findings of an examination, their outcome, and their order for people.

The most important come first, and findings with the same remedy come together.
"""

import re
from collections.abc import Iterable
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


IMPORTANT_FIRST = (Outcome.FAILURE, Outcome.WARNING, Outcome.OK)
SETTING = re.compile(r"\b([A-Z][A-Z0-9]*_[A-Z0-9_]+)=")


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one examination that have the same outcome and the same remedy."""

    outcome: Outcome
    examination: str
    remedy: str
    messages: list[str]

    @property
    def setting(self) -> str:
        """The setting that the remedy changes, or ""."""
        found = SETTING.search(self.remedy)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Report:
    """``skipped``: the reasons by the names of the examinations."""

    groups: list[Group]
    skipped: dict[str, str]

    def count(self, outcome: Outcome) -> int:
        """Count the groups: findings with one remedy are one fault."""
        return sum(group.outcome == outcome for group in self.groups)


def report(examinations: Iterable[Examination]) -> Report:
    groups: dict[tuple[Outcome, str, str], Group] = {}
    skipped: dict[str, str] = {}
    for each in examinations:
        for number, finding in enumerate(each.findings):
            if finding.outcome == Outcome.SKIPPED:
                skipped[each.name] = finding.message
                continue
            # Only a remedy joins findings. Without one, each finding has its own line.
            key = (finding.outcome, each.name, finding.remedy or str(number))
            group = groups.setdefault(key, Group(finding.outcome, each.name, finding.remedy, []))
            group.messages.append(finding.message)
    ordered = sorted(groups.values(), key=lambda group: IMPORTANT_FIRST.index(group.outcome))
    return Report(ordered, skipped)
