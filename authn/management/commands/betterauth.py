"""``manage.py betterauth doctor`` and ``manage.py betterauth explain``."""

import json
import logging
import os
import sys
from dataclasses import asdict
from typing import Any, NoReturn

from django.core.management.base import CommandParser
from django.views.decorators.debug import sensitive_variables

from authn.diagnosis.doctor import examine
from authn.diagnosis.doctor.findings import Examination, Group, Outcome, Report, report
from authn.diagnosis.explained import Explanation
from authn.diagnosis.explanation import explain
from authn.management.terminal import CommandWithExample, counted, epilog, printable

FAILED, USAGE_ERROR = 1, 2  # exit statuses; FAILED also if a token is refused
MAX_INPUT = 64 * 1024  # bytes of stdin

COMMANDS = """The commands are:
  manage.py betterauth doctor     says whether this backend works with Better Auth
  manage.py betterauth explain -  says why the token on stdin is accepted or refused
For all options: manage.py betterauth --help"""


class Command(CommandWithExample):
    help = (
        "doctor says whether this backend works with Better Auth, and what to change. explain says why a "
        "token is accepted or refused."
    )
    example = "betterauth doctor"
    requires_system_checks = []  # doctor runs them itself

    def add_arguments(self, parser: CommandParser) -> None:
        # argparse's messages repeat wrong arguments, and those may be tokens.
        parser.error = self._exit_with_usage  # type: ignore[method-assign]
        commands = parser.add_subparsers(dest="command", required=True)
        doctor = commands.add_parser(
            "doctor",
            help="examine settings, database, tables, grants, keys, clocks; exit status 1 on a failure",
            description="Examines the settings, the database, Better Auth's tables, grants, keys and clocks. "
            "It changes nothing. The most important finding comes first. The exit status is 1 on a failure.",
            epilog=epilog("betterauth doctor --processes 4"),
        )
        doctor.add_argument("--token", default="", metavar="-", help="read a token from stdin, and test it")
        doctor.add_argument(
            "--processes",
            type=int,
            default=int(os.environ.get("WEB_CONCURRENCY") or 1),
            help="how many server processes share the database (default: WEB_CONCURRENCY, or 1)",
        )
        doctor.add_argument("--all", action="store_true", help="also say why examinations were skipped")
        explain = commands.add_parser(
            "explain",
            help="why a token is accepted (exit status 0) or refused (1)",
            description="Says step by step why a token is accepted or refused. Use - as the argument, and "
            "give the token on stdin. As an argument, it would be in the shell's history and in the list of "
            "processes.",
            epilog=epilog("betterauth explain - < token.txt"),
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
        given = token if token != "-" else self._read_stdin()  # noqa: S105 - not a password
        examinations = list(examine(given, max(1, processes)))
        has_failed = Outcome.FAILURE in {each.outcome for each in examinations}
        if options["json"]:
            listed = [{**asdict(each), "outcome": each.outcome} for each in examinations]
            self._write_json({"ok": not has_failed, "examinations": listed})
        else:
            self._write_report(examinations, has_token=bool(given), show_all=options["all"])
        return FAILED if has_failed else 0

    def _write_report(self, examinations: list[Examination], *, has_token: bool, show_all: bool) -> None:
        found = report(examinations)
        before = None
        for group in found.groups:
            is_same = before == (group.outcome, group.examination)
            self._write_group(group, "" if is_same else group.examination)
            before = (group.outcome, group.examination)
        if show_all:
            for name, reason in found.skipped.items():
                self._row("skipped", name, reason)
        elif found.skipped:
            names = f"{', '.join(found.skipped)} (why: --all)"
            self._row("skipped", counted(len(found.skipped), "examination"), names)
        failures, warnings = found.count(Outcome.FAILURE), found.count(Outcome.WARNING)
        self.stdout.write(
            f"\n{counted(len(examinations), 'examination')}: {counted(failures, 'failure')}, "
            f"{counted(warnings, 'warning')}.",
            self.style.ERROR if failures else self.style.SUCCESS,
        )
        self.stdout.write(f"Next: {next_step(found, has_token=has_token)}")

    def _write_group(self, group: Group, name: str) -> None:
        first, *others = group.messages
        if others:
            heading = f"{group.setting or 'One remedy'} corrects {counted(len(group.messages), 'finding')}:"
            self._row(group.outcome, name, heading)
            for message in group.messages:
                self.stdout.write(f"{'':30}- {printable(message)}")
        else:
            self._row(group.outcome, name, first)
        for line in group.remedy.splitlines():
            self.stdout.write(f"{'':30}→ {printable(line)}")

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
            width = max(map(len, explanation.contents)) + 1
            for name, value in explanation.contents.items():
                self.stdout.write(f"  {name:{width}}{value}")
            self.stdout.write("")
        for step, outcome in explanation.steps():
            self._row(outcome, step, explanation.all_steps[step])
        verdict = (
            "Accepted" if explanation.accepted else f"Refused, {explanation.status} ({explanation.reason})"
        )
        style = self.style.SUCCESS if explanation.accepted else self.style.ERROR
        self.stdout.write(f"\n{verdict}: {printable(explanation.message)}", style)
        if explanation.remedy:
            self.stdout.write(f"→ {printable(explanation.remedy)}")

    def _row(self, outcome: str, name: str, message: str) -> None:
        styles = {
            **dict.fromkeys(("ok", "passed"), self.style.SUCCESS),
            **dict.fromkeys(("failure", "failed"), self.style.ERROR),
            "warning": self.style.WARNING,
        }
        label = f"{outcome:12}"
        shown = styles[outcome](label) if outcome in styles else label
        self.stdout.write(f"{shown}{name:18}{printable(message)}")

    def _write_json(self, content: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(content, indent=2))

    def _read_stdin(self) -> str:
        return sys.stdin.buffer.read(MAX_INPUT).decode(errors="replace")

    def _exit_with_usage(self, message: str) -> NoReturn:
        """Show how to see the usage, and exit. Replaces argparse's ``error``, which may repeat a token."""
        own = message if message.startswith("There is") else "The arguments are wrong."
        self.stderr.write(f"{own} {COMMANDS}")
        sys.exit(USAGE_ERROR)


def next_step(found: Report, *, has_token: bool) -> str:
    """Returns a sentence without its end mark if it ends with a command."""
    worst = found.groups[0]
    if worst.outcome == Outcome.FAILURE:
        what = "do what the first arrow (→) says" if worst.remedy else "correct the first failure"
        return f"{what}, and run this command again."
    warned = "read the warnings. Then " if worst.outcome == Outcome.WARNING else ""
    if not has_token:
        return f"{warned}test a token of Better Auth: manage.py betterauth doctor --token - < token.txt"
    return f"{warned}start the server." if warned else "start the server. This deployment is ready."
