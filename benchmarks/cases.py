"""What is asked of a server, and what is measured of it meanwhile."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import psycopg

from benchmarks.environment import LIST, Environment, Server
from benchmarks.measuring import machine
from benchmarks.measuring.client import Load, create
from benchmarks.results.table import Column, percentile
from benchmarks.targets import BASELINE, OURS, Target
from chatbackend.dev.processes import TOP, StartError

DELTAS = 20
WARM_UP_SECONDS = 2
STREAM_END = "thread.item.done"
STREAM_DELTA = "assistant_message.content_part.text_delta"
PACED_PER_SECOND, PACED_CONNECTIONS = 50, 16

Sample = dict[str, float]
Measure = Callable[[Server, Environment], Sample]

COST = [
    Column("cpu_us", "CPU µs", 0),
    Column("database_us", "PostgreSQL µs", 0),
    Column("errors", "errors", 0),
    Column("steal", "steal %", 0),
]


@dataclass(frozen=True, slots=True)
class Case:
    """``reading``: how to read its tables. ``ratio``: the column that is compared to the baseline's."""

    title: str
    reading: str
    columns: list[Column]
    ratio: str
    cells: dict[str, Measure]
    targets: list[Target] | None = None  # instead of all that can take part
    baseline: str = BASELINE.name


def cases(concurrency: Sequence[int], streams: int, seconds: float) -> dict[str, Case]:
    """By their names. ``streams``: how many slow ones. ``seconds``: how long each measurement lasts."""
    return {
        "list": Case(
            "`threads.list`, authenticated",
            "Requests/s on one core, by so many connections that never pause.",
            [
                Column("per_second", "requests/s", 0, spread=True),
                Column("p50", "p50 ms", 1),
                Column("p99", "p99 ms", 1),
                *COST,
            ],
            "per_second",
            {f"{n} connections": partial(_list, n, seconds) for n in concurrency},
        ),
        "stream": Case(
            f"`threads.create` with {DELTAS} deltas",
            "So many clients, each with one stream after another.",
            [
                Column("per_second", "streams/s", 0, spread=True),
                Column("p50", "first event p50 ms", 1),
                Column("p99", "first event p99 ms", 1),
                *COST,
            ],
            "per_second",
            {f"{n} clients": partial(_stream, n, seconds) for n in concurrency},
        ),
        "slow": Case(
            f"{streams:,} slow streams, and the API beside them",
            f"{PACED_PER_SECOND} `threads.list` requests/s, alone, and while each stream has deltas. All are "
            "asked for in one moment: last first event is what that takes. Connections are the server's to "
            "PostgreSQL; kB is what its memory grew by, for each stream.",
            [
                Column("idle_p99", "p99 ms alone", 1),
                Column("p99", "p99 ms beside", 1, spread=True),
                Column("times", "beside / alone", 2),
                Column("open", "streams open", 0),
                Column("burst", "last first event ms", 0),
                Column("connections", "connections", 0),
                Column("stream_kb", "kB a stream", 1),
                Column("threads", "threads", 0),
                Column("errors", "errors", 0),
                Column("steal", "steal %", 0),
            ],
            "p99",
            {f"{streams:,} streams": partial(_slow, streams, seconds)},
        ),
        "resolve": Case(
            "Resolving a user: token and statement",
            "`duration_ms` of the audit log's records: from when a thread has taken the request up.",
            [
                Column("p50", "p50 ms", 2),
                Column("p99", "p99 ms", 2, spread=True),
                Column("requests", "resolved", 0),
                Column("errors", "errors", 0),
                Column("steal", "steal %", 0),
            ],
            "p99",
            {"64 connections": partial(_resolve, 64, seconds)},
            targets=[OURS],
            baseline=OURS.name,
        ),
        "workers": Case(
            "Two workers",
            "`threads.list` with two cores for the server. With no more than two cores in all, clients and "
            "database share them, and the CPU of a request tells more than the requests/s.",
            [
                Column("per_second", "requests/s", 0, spread=True),
                Column("p99", "p99 ms", 1),
                *COST,
            ],
            "per_second",
            {"64 connections": partial(_list, 64, seconds)},
            targets=[workers(1), workers(2)],
            baseline=workers(1).name,
        ),
    }


def workers(count: int) -> Target:
    return replace(OURS, name=f"{OURS.name}, {count} worker{'s' * (count > 1)}", workers=count, cores=2)


def wrk_or_stop() -> None:
    if not machine.version_of("wrk", "--version"):
        raise StartError("wrk is missing. Debian and Ubuntu have it: apt install wrk")


def _list(connections: int, seconds: float, server: Server, environment: Environment) -> Sample:
    _wrk(server, connections, WARM_UP_SECONDS)
    with _costed(server, environment) as sample:
        sample |= _wrk(server, connections, seconds)
    return sample


def _stream(clients: int, seconds: float, server: Server, environment: Environment) -> Sample:
    load = Load(server.url, server.credentials.good, create(DELTAS, 0), STREAM_END, clients, each=1_000_000)
    with _client(load):  # to warm up: a stream each
        pass
    load.seconds = seconds
    with _costed(server, environment) as sample, _client(load) as result:
        result()  # each has had its first event
        sample |= result()
    return sample


def _slow(streams: int, seconds: float, server: Server, environment: Environment) -> Sample:
    # Time for a server that opens 40 a second, for what is measured then, and for some noise.
    length = streams / 40 + 2 * seconds + 5
    load = Load(
        server.url,
        server.credentials.good,
        create(DELTAS, length),
        STREAM_END,
        streams,
        beginning=STREAM_DELTA,
        patience=2 * length,
    )
    pause_ms = 1000 * PACED_CONNECTIONS // PACED_PER_SECOND
    _wrk(server, PACED_CONNECTIONS, WARM_UP_SECONDS)
    alone = _wrk(server, PACED_CONNECTIONS, 2 * seconds, pause_ms)
    before = machine.use(server.pid)
    with _client(load) as result:
        opened = result()["open"]
        beside = _wrk(server, PACED_CONNECTIONS, 2 * seconds, pause_ms)
        during, connections, measured_at = (
            machine.use(server.pid),
            _connections(environment),
            time.monotonic(),
        )
        streamed = result()
    return {
        "idle_p99": alone["p99"],
        "p99": beside["p99"],
        "times": beside["p99"] / alone["p99"] if alone["p99"] else 0.0,
        # None of those that were open when the last one opened had ended before we looked.
        "open": opened if streamed["first_ended_at"] > measured_at else 0.0,
        "burst": streamed["last"],
        "connections": connections,
        "stream_kb": (during.resident_kb - before.resident_kb) / streams,
        "threads": during.threads,
        "errors": alone["errors"] + beside["errors"] + streamed["errors"],
    }


def _resolve(connections: int, seconds: float, server: Server, environment: Environment) -> Sample:
    _wrk(server, connections, WARM_UP_SECONDS)
    written = server.log.stat().st_size
    answered = _wrk(server, connections, seconds)
    lines = server.log.read_bytes()[written:].splitlines()
    records = [json.loads(line) for line in lines if b'"authn.audit"' in line]
    durations = sorted(record["duration_ms"] for record in records if record["outcome"] == "accepted")
    return {
        "p50": percentile(durations, 50),
        "p99": percentile(durations, 99),
        "requests": len(durations),
        "errors": answered["errors"] + len(records) - len(durations),
    }


@contextmanager
def _costed(server: Server, environment: Environment) -> Iterator[Sample]:
    """Adds to the sample what a request in it costs the server, and PostgreSQL."""
    watched = {"cpu_us": server.pid} | (
        {"database_us": environment.postgres_pid} if environment.postgres_pid else {}
    )
    before = {key: machine.use(pid).cpu for key, pid in watched.items()}
    sample: Sample = {}
    yield sample
    for key, pid in watched.items():
        spent = machine.use(pid).cpu - before[key]
        sample[key] = 1e6 * spent / sample["requests"] if sample["requests"] else 0.0


def _wrk(server: Server, connections: int, seconds: float, pause_ms: int = 0) -> Sample:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "10s"]
    command += ["-s", str(TOP / "benchmarks/requests.lua"), server.url]
    command += ["--", str(server.tokens), LIST, str(pause_ms)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if said.returncode:
        raise StartError(f"{said.stdout}{said.stderr}\nwrk ended with status {said.returncode}.")
    sample: Sample = json.loads(said.stdout.splitlines()[-1])
    return sample


@contextmanager
def _client(load: Load) -> Iterator[Callable[[], Any]]:
    """Start it; what is yielded waits for the next line that it prints. The block ends when it does."""
    command = [sys.executable, "-m", "benchmarks.measuring.client"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=TOP, **pipes) as process:
        assert process.stdin
        assert process.stdout
        json.dump(asdict(load), process.stdin)
        process.stdin.close()
        lines = iter(process.stdout)
        try:
            yield lambda: json.loads(next(lines))
        finally:
            list(lines)


def _connections(environment: Environment) -> float:
    """To the database, but for this one: of the one server that runs."""
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
        return float(row[0]) if row else 0.0
