"""``run`` (the default) compares our server with the peers. ``profile`` shows one request by layer."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cases import Case, Sample, cases, wrk_or_stop
from benchmarks.environment import Environment, peers_python, prepare
from benchmarks.measuring import machine
from benchmarks.results import report
from benchmarks.results.table import table
from benchmarks.targets import ALL, BASELINE, CACHED_PARSER, OURS, Target
from chatbackend.dev.processes import TOP, StartError, say

MAIN_CASES = ["list", "stream", "slow"]


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if sys.platform != "linux":
        raise StartError("The benchmarks read /proc and pin processes to cores: they need Linux.")
    with prepare(options.users, options.sessions, options.database) as environment:
        if options.command == "profile":
            # Imported here, because it imports all that our server needs.
            from benchmarks.measuring.profile import profile

            say(profile(environment, options.operation, options.requests))
        else:
            _run(environment, options)


def _run(environment: Environment, options: argparse.Namespace) -> None:
    wrk_or_stop()
    if options.write:
        report.with_measured(options.write.read_text(), "")  # stop now, and not after the measurement
    python, load = peers_python(), os.getloadavg()[0]
    all_cases = cases(options.concurrency, options.streams, options.seconds)
    chosen = options.targets or {name: None for case in options.cases for name in all_cases[case].usual}
    targets = [ALL[name] for name in ALL if name in chosen]
    wrongly_accepted = {}
    for target in targets:
        with environment.running(target) as server:
            wrongly_accepted[target.name] = server.wrongly_accepted()
            _log(f"{target.name} wrongly accepts: {', '.join(wrongly_accepted[target.name]) or 'nothing'}")
    parts = [report.legend(targets, wrongly_accepted)]
    try:
        for name in options.cases:
            case = all_cases[name]
            names = options.targets or case.usual
            participants = case.targets or [
                each for each in targets if each.name in names and name in each.cases
            ]
            parts += _tables(case, participants, environment, options.rounds)
    finally:  # also report what was measured before a failure
        head = report.head(environment, python, options.users, options.sessions, options.rounds, load)
        text = "\n\n".join([head, *parts]) + "\n"
        say(text)
        if options.write:
            options.write.write_text(report.with_measured(options.write.read_text(), text))


def _tables(case: Case, targets: list[Target], environment: Environment, rounds: int) -> Iterator[str]:
    yield f"## {case.title}"
    yield case.reading
    for cell, measured in _measured(case, targets, environment, rounds).items():
        as_shipped = {
            target: samples for target, samples in measured.items() if not target.endswith(CACHED_PARSER)
        }
        yield f"**{cell}**"
        yield table(case.columns, case.ratio, case.baseline, as_shipped)
        if len(as_shipped) < len(measured):
            with_cache = {
                t: samples for t, samples in measured.items() if t.endswith(CACHED_PARSER) or t == OURS.name
            }
            yield f"**{cell}; the peers keep the parser too**"
            yield table(case.columns, case.ratio, BASELINE.name + CACHED_PARSER, with_cache)


def _measured(
    case: Case, targets: list[Target], environment: Environment, rounds: int
) -> dict[str, dict[str, list[Sample]]]:
    """For each cell and target, one sample per round. One start of a server measures all cells.

    The order is A B C, then C B A, so that a slow minute of the machine affects all targets.
    """
    measured: dict[str, dict[str, list[Sample]]] = {
        cell: {target.name: [] for target in targets} for cell in case.cells
    }
    for number in range(rounds):
        for target in targets[:: 1 if number % 2 == 0 else -1]:
            with environment.running(target) as server:
                case.warm_up(server)
                for cell, measure in case.cells.items():
                    stolen, ticks = machine.stolen()
                    sample = measure(server, environment)
                    now_stolen, now_ticks = machine.stolen()
                    sample["steal"] = 100 * (now_stolen - stolen) / max(1, now_ticks - ticks)
                    sample["stalled"] = float(server.is_stalled())
                    measured[cell][target.name].append(sample)
                    figures = ", ".join(f"{key} {value:.1f}" for key, value in sample.items())
                    _log(f"{case.title}, {cell}, round {number + 1}: {target.name}: {figures}")
    return measured


def _log(line: str) -> None:
    """Print progress to stderr. The result goes to stdout."""
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    def whole_numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def known(names: list[str]) -> "type[list[str]]":
        def read(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := set(chosen) - set(names):
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(names)}")
            return chosen

        return read  # type: ignore[return-value]

    every_case = list(cases([1], 1, 1))
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["run", "profile"], default="run")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=300_000)
    parser.add_argument(
        "--database", default="", metavar="URL", help="an empty database to use instead of a local PostgreSQL"
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--targets", type=known(list(ALL)), help=f"default: those that a case is for. All: {', '.join(ALL)}"
    )
    run.add_argument("--cases", type=known(every_case), default=MAIN_CASES, help=",".join(every_case))
    run.add_argument("--rounds", type=int, default=5)
    run.add_argument("--seconds", type=float, default=2, help="duration of each measurement")
    run.add_argument("--concurrency", type=whole_numbers, default=[1, 16, 64], metavar="1,16,64")
    run.add_argument("--streams", type=int, default=1000, help="number of streams in the case slow")
    run.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=TOP / "docs/benchmarks.md",
        help="also write the result between the marks of this document (default: docs/benchmarks.md)",
    )
    profile = parser.add_argument_group("profile")
    profile.add_argument("--operation", choices=["threads.list", "threads.create"], default="threads.list")
    profile.add_argument("--requests", type=int, default=5000)
    return parser


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except StartError as exc:
        sys.exit(f"\n{exc}")
