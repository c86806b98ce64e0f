"""``manage.py betterauth doctor`` and ``manage.py betterauth explain``."""

import json
import logging
import os
import sys
from dataclasses import asdict
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser
from django.views.decorators.debug import sensitive_variables

from authn.diagnosis.doctor import examine
from authn.diagnosis.doctor.findings import Outcome
from authn.diagnosis.explanation import Explanation, explain

FAILED, USAGE_ERROR = 1, 2  # exit statuses; FAILED also if a token is refused
MAX_INPUT = 64 * 1024  # bytes of stdin


class Command(BaseCommand):
    help = "Shows whether this backend works with Better Auth, and why a token is accepted or refused."
    requires_system_checks = []  # doctor runs them itself

    def add_arguments(self, parser: CommandParser) -> None:
        # argparse's messages repeat wrong arguments, and those may be tokens.
        parser.error = self._exit_with_usage  # type: ignore[method-assign]
        commands = parser.add_subparsers(dest="command", required=True)
        doctor = commands.add_parser(
            "doctor",
            help="examine settings, database, tables, grants, keys, clocks; exit status 1 on a failure",
        )
        doctor.add_argument("--token", default="", metavar="-", help="read a token from stdin, and test it")
        doctor.add_argument(
            "--processes",
            type=int,
            default=int(os.environ.get("WEB_CONCURRENCY") or 1),
            help="how many server processes share the database (default: WEB_CONCURRENCY, or 1)",
        )
        explain = commands.add_parser(
            "explain",
            help="why a token is accepted (exit status 0) or refused (1)",
            description="Use - as the argument, and give the token on stdin. As an argument, it would be in "
            "the shell's history and in the list of processes.",
        )
        explain.add_argument("token", nargs="*", help="- reads it from stdin; the token itself works too")
        for each in (doctor, explain):
            each.error = self._exit_with_usage  # type: ignore[method-assign]
            each.add_argument("--json", action="store_true", help="print JSON")

    @sensitive_variables()
    def handle(self, *args: Any, **options: Any) -> None:
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # the log is written to stdout, like this command's output
        try:
            run = self._doctor if options["command"] == "doctor" else self._explain
            status = run(**options)
        finally:
            logging.disable(before)
        sys.exit(status)

    def _doctor(self, *, token: str, processes: int, **options: Any) -> int:
        examinations = []
        given = token if token != "-" else self._read_stdin()  # noqa: S105 - not a password
        for examination in examine(given, max(1, processes)):
            examinations.append(examination)
            if options["json"]:
                continue
            name = examination.name
            for finding in examination.findings:
                self._row(finding.outcome, name, finding.message, finding.remedy)
                name = ""
        outcomes = [finding.outcome for each in examinations for finding in each.findings]
        failures, warnings = outcomes.count(Outcome.FAILURE), outcomes.count(Outcome.WARNING)
        if options["json"]:
            listed = [{**asdict(each), "outcome": each.outcome} for each in examinations]
            self._write_json({"ok": not failures, "examinations": listed})
        else:
            summary = f"{len(examinations)} examinations: {failures} failures, {warnings} warnings."
            self.stdout.write(f"\n{summary}", self.style.ERROR if failures else self.style.SUCCESS)
        return FAILED if failures else 0

    def _explain(self, *, token: list[str], **options: Any) -> int:
        # "Bearer eyJ…" without quotes is two arguments, so join them.
        given = self._read_stdin() if token in ([], ["-"]) else " ".join(token)
        if not given.strip():
            self._exit_with_usage(
                "There is nothing to explain. Use - as the argument, and give a token on stdin."
            )
        explanation = explain(given)
        if options["json"]:
            steps = [{"step": step, "outcome": outcome} for step, outcome in explanation.steps()]
            self._write_json({
                "accepted": explanation.accepted,
                "reason": explanation.reason,
                "status": explanation.status,
                "message": explanation.message,
                "remedy": explanation.remedy,
                "steps": steps,
                "is_genuine": explanation.is_genuine,
                "token": explanation.contents,
            })  # fmt: skip
        else:
            self._write_explanation(explanation)
        return 0 if explanation.accepted else FAILED

    def _write_explanation(self, explanation: Explanation) -> None:
        if explanation.contents:
            warning = (
                "" if explanation.is_genuine else ", which may be forged: its signature was not verified"
            )
            self.stdout.write(f"The token{warning}:")
            for name, value in explanation.contents.items():
                self.stdout.write(f"  {name:6}{value}")
            self.stdout.write("")
        for step, outcome in explanation.steps():
            self._row(outcome, step, explanation.all_steps[step], "")
        verdict = (
            "Accepted" if explanation.accepted else f"Refused, {explanation.status} ({explanation.reason})"
        )
        style = self.style.SUCCESS if explanation.accepted else self.style.ERROR
        self.stdout.write(f"\n{verdict}: {printable(explanation.message)}", style)
        if explanation.remedy:
            self.stdout.write(f"→ {printable(explanation.remedy)}")

    def _row(self, outcome: str, name: str, message: str, remedy: str) -> None:
        styles = {"failure": self.style.ERROR, "stopped": self.style.ERROR, "warning": self.style.WARNING}
        label = f"{outcome:12}"
        shown = styles[outcome](label) if outcome in styles else label
        self.stdout.write(f"{shown}{name:18}{printable(message)}")
        for line in remedy.splitlines():
            self.stdout.write(f"{'':30}→ {printable(line)}")

    def _write_json(self, content: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(content, indent=2))

    def _read_stdin(self) -> str:
        return sys.stdin.buffer.read(MAX_INPUT).decode(errors="replace")

    def _exit_with_usage(self, message: str) -> NoReturn:
        """Show how to see the usage, and exit. Replaces argparse's ``error``, which may repeat a token."""
        own = message if message.startswith("There is") else "The arguments are wrong."
        self.stderr.write(f"{own} See: manage.py betterauth --help")
        sys.exit(USAGE_ERROR)


def printable(text: str) -> str:
    """Replaces control characters. A key set or a token may hold characters that control the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
