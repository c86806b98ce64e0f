"""The text above the tables (machine, versions and targets), and the document that has the tables."""

import importlib.metadata
import json
import os
import platform
import subprocess
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime

import psycopg

from benchmarks.environment import Environment
from benchmarks.measuring import machine
from benchmarks.targets import Target
from chatbackend.dev.frontend import FRONTEND
from chatbackend.dev.processes import TOP, StartError

OURS = [
    *["django", "djangorestframework", "asgiref", "psycopg", "openai-chatkit", "pydantic", "pyjwt"],
    *["cryptography", "uvicorn", "uvloop", "httptools"],
]
PEERS = ["fastapi", "starlette", "fastapi-better-auth-bridge", "sqlalchemy", "asyncpg", "psycopg2-binary"]
# ``make bench ARGS=--write`` replaces only what is between these two lines of the document.
BEGIN, END = "<!-- begin: make bench -->", "<!-- end: make bench -->"
VERSIONS = (
    "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
)


def with_measured(document: str, measured: str) -> str:
    """Return the document with ``measured`` between its marks. Raises ``StartError`` without the marks."""
    measured = "\n".join(map(_wrapped, measured.split("\n")))
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise StartError(f"The document needs a line {BEGIN!r} and, below it, a line {END!r}.")
    return f"{before}{BEGIN}\n\n{measured}\n{END}{after}"


def head(
    environment: Environment, python_of_peers: str, users: int, sessions: int, rounds: int, load: float
) -> str:
    """``load``: the load average when the run began."""
    server, others = machine.split(1)
    people = len(environment.issuer.population.people)
    database = (
        "PostgreSQL"
        if environment.postgres_pid
        else "a PostgreSQL that is not pinned, because it is not ours"
    )
    return "\n\n".join(
        [
            "## The machine and the servers",
            f"`make bench` measured this on {datetime.now(UTC):%Y-%m-%d}, at commit {_commit()}. "
            "[benchmarks/README.md](../benchmarks/README.md) says how it measures and what each column "
            "means.",
            f"- {machine.processor()}; the load average was {load:.1f} before the run and "
            f"{os.getloadavg()[0]:.1f} after it\n"
            f"- {users:,} users and {sessions:,} sessions in the database; {people:,} of the users send "
            "requests in turn\n"
            f"- each figure is the median of {rounds} rounds, with the lowest and the highest in "
            "parentheses\n"
            f"- the server runs on core {_cores(server)}; the clients and {database} run on core "
            f"{_cores(others)}\n"
            f"- {_versions(environment, python_of_peers)}",
        ]
    )


def legend(targets: list[Target], wrongly_accepted: Mapping[str, list[str]]) -> str:
    """One line for each target, with the bad credentials that it accepts."""
    lines = []
    for target in targets:
        accepted = wrongly_accepted[target.name]
        mark = f". **It accepts {', '.join(accepted)}**, so it does less work" if accepted else ""
        lines.append(f"- `{target.name}`: {target.about}{mark}")
    return "\n".join(lines)


def _wrapped(line: str) -> str:
    """Break a long line of text. A row of a table stays one line."""
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _cores(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return (
        subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False).stdout.strip()
        or "unknown"
    )


def _versions(environment: Environment, python_of_peers: str) -> str:
    known = {name: importlib.metadata.version(name) for name in OURS}
    done = subprocess.run(
        [python_of_peers, "-c", VERSIONS, *PEERS], capture_output=True, text=True, check=True
    )
    known |= json.loads(done.stdout)
    better_auth = FRONTEND / "node_modules/better-auth/package.json"
    if better_auth.exists():
        known["better-auth"] = json.loads(better_auth.read_text())["version"]
    with psycopg.connect(environment.database_url) as connection:
        known["PostgreSQL"] = str(connection.info.server_version // 10000)
    known["Python"] = platform.python_version()
    known["Node"] = machine.version_of("node", "--version").removeprefix("v")
    known["wrk"] = machine.version_of("wrk", "--version").partition(" [")[0].removeprefix("wrk ")
    return ", ".join(f"{name} {version}" for name, version in known.items() if version)
