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

FAILED, USAGE = 1, 2  # exit statuses; a token that is refused has failed
MAX_INPUT = 64 * 1024  # bytes of stdin


class Command(BaseCommand):
    help = "Says whether this backend and Better Auth fit together, and why a token is accepted or refused."
    requires_system_checks = []  # they are part of what doctor reports

    def add_arguments(self, parser: CommandParser) -> None:
        # argparse repeats what it cannot make out, and that may be a token.
        parser.error = self._usage  # type: ignore[method-assign]
        commands = parser.add_subparsers(dest="command", required=True)
        doctor = commands.add_parser(
            "doctor",
            help="examine settings, database, tables, grants, keys, clocks; exit status 1 on a failure",
        )
        doctor.add_argument("--token", default="", metavar="-", help="read a token from stdin, and try it")
        doctor.add_argument(
            "--processes",
            type=int,
            default=int(os.environ.get("WEB_CONCURRENCY") or 1),
            help="how many server processes share the database (default: WEB_CONCURRENCY, or 1)",
        )
        why = commands.add_parser(
            "explain",
            help="why a token is accepted (exit status 0) or refused (1)",
            description="Give - as the argument, and the token on stdin: as an argument it would be in the "
            "shell's history and, while this runs, in the list of processes.",
        )
        why.add_argument(
            "token", nargs="*", help="- reads it from stdin; a token as an argument works as well"
        )
        for each in (doctor, why):
            each.error = self._usage  # type: ignore[method-assign]
            each.add_argument("--json", action="store_true", help="for programs")

    @sensitive_variables()
    def handle(self, *args: Any, **options: Any) -> None:
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # the log goes to stdout, and would come between
        try:
            run = self._doctor if options["command"] == "doctor" else self._explain
            status = run(**options)
        finally:
            logging.disable(before)
        sys.exit(status)

    def _doctor(self, *, token: str, processes: int, **options: Any) -> int:
        examinations = []
        given = token if token != "-" else self._read_stdin()  # noqa: S105 - it is the sign for stdin
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
            said = f"{len(examinations)} examinations: {failures} failures, {warnings} warnings."
            self.stdout.write(f"\n{said}", self.style.ERROR if failures else self.style.SUCCESS)
        return FAILED if failures else 0

    def _explain(self, *, token: list[str], **options: Any) -> int:
        given = self._read_stdin() if token in ([], ["-"]) else " ".join(token)  # Bearer eyJ…, unquoted
        if not given.strip():
            self._usage("There is nothing to explain: give a token on stdin, and - as the argument.")
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
            whose = "" if explanation.is_genuine else " (whoever wrote it: its signature was not found good)"
            self.stdout.write(f"The token says{whose}:")
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

    def _usage(self, message: str) -> NoReturn:
        """In place of argparse's own, whose message may hold what was given."""
        own = message if message.startswith("There is") else "What was given cannot be understood."
        self.stderr.write(f"{own} See: manage.py betterauth --help")
        sys.exit(USAGE)


def printable(text: str) -> str:
    """What a key set or a token says must not steer the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
