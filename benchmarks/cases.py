"""The cases of the benchmark: the requests of each, and what it measures."""

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
from benchmarks.servers.pgbouncer import POOL_SIZE
from benchmarks.targets import BASELINE, OURS, Target
from chatbackend.dev.processes import TOP, StartError

DELTAS = 20
WARM_UP_SECONDS = 1
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
    """``reading``: how to read its tables. ``ratio``: the column that is compared with the baseline.

    ``usual``: the names of the targets that are measured by default. ``targets``: if the case has targets of
    its own.
    """

    title: str
    reading: str
    columns: list[Column]
    ratio: str
    cells: dict[str, Measure]
    usual: tuple[str, ...] = ()
    targets: list[Target] | None = None
    warm_up: Callable[[Server], Any] = lambda server: None  # once after the start of a server
    baseline: str = BASELINE.name


def cases(concurrency: Sequence[int], streams: int, seconds: float) -> dict[str, Case]:
    """The cases by name. ``streams``: number of slow streams. ``seconds``: duration of a measurement."""
    return {
        "list": Case(
            "`threads.list`, authenticated",
            "Requests per second on one core. Each connection sends the next request as soon as it has an "
            "answer.",
            [
                Column("per_second", "requests/s", 0, spread=True),
                Column("p50", "p50 ms", 1),
                Column("p99", "p99 ms", 1),
                *COST,
            ],
            "per_second",
            {f"{n} connection{'s' * (n > 1)}": partial(_list, n, seconds) for n in concurrency},
            ("ours", "bridge_jwt_db", "bridge_jwt", "careful", "better_auth", "bridge_jwt_db+parser"),
            warm_up=_warm_up,
        ),
        "stream": Case(
            f"`threads.create` with {DELTAS} deltas",
            "Each client opens the next stream when the last one has ended.",
            [
                Column("per_second", "streams/s", 0, spread=True),
                Column("p50", "first event p50 ms", 1),
                Column("p99", "first event p99 ms", 1),
                *COST,
            ],
            "per_second",
            {f"{n} client{'s' * (n > 1)}": partial(_stream, n, seconds) for n in concurrency},
            ("ours", "sample", "sample+parser", "bridge_jwt_db+parser"),
            baseline="sample",
        ),
        "slow": Case(
            f"{streams:,} slow streams, and other requests meanwhile",
            f"{PACED_PER_SECOND} `threads.list` requests/s, first alone, then during the streams. All "
            "streams start at the same moment; *last first event* is the time until each has sent an event. "
            "*Connections* are those of the server to PostgreSQL. *kB a stream* is the growth of its memory.",
            [
                Column("idle_p99", "p99 ms alone", 1),
                Column("p99", "p99 ms with streams", 1, spread=True),
                Column("slowdown", "with / alone", 2),
                Column("open", "streams open", 0),
                Column("last_first_event", "last first event ms", 0),
                Column("connections", "connections", 0),
                Column("stream_kb", "kB a stream", 1),
                Column("threads", "threads", 0),
                Column("errors", "errors", 0),
                Column("steal", "steal %", 0),
            ],
            "p99",
            {f"{streams:,} streams": partial(_slow, streams, seconds)},
            ("ours",),
        ),
        "resolve": Case(
            "Identifying a user: token and SQL statement",
            "These figures are `duration_ms` of the audit log's records. The time starts when a worker "
            "thread takes the request.",
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
            "`threads.list` with two cores for the server. On a machine with only two cores, the clients and "
            "the database share them. Then compare the CPU time of a request, not the requests/s.",
            [
                Column("per_second", "requests/s", 0, spread=True),
                Column("p99", "p99 ms", 1),
                *COST,
            ],
            "per_second",
            {"64 connections": partial(_list, 64, seconds)},
            targets=[workers(1), workers(2)],
            warm_up=_warm_up,
            baseline=workers(1).name,
        ),
        "pooler": Case(
            "Four workers, and PgBouncer in transaction mode",
            f"PgBouncer has {POOL_SIZE} connections to PostgreSQL. It is a process of its own, and its CPU "
            "time is not in the table. Behind it, no statement may be prepared: the benchmark looks for "
            "prepared statements after each measurement.",
            [
                Column("per_second", "requests/s", 0, spread=True),
                Column("p99", "p99 ms", 1),
                *COST,
            ],
            "per_second",
            {
                "`threads.list`, 64 connections": partial(_list, 64, seconds),
                "`threads.create`, 16 clients": partial(_stream, 16, seconds),
            },
            targets=[workers(4), pooled(workers(4))],
            warm_up=_warm_up,
            baseline=workers(4).name,
        ),
    }


def workers(count: int) -> Target:
    return replace(OURS, name=f"{OURS.name}, {count} worker{'s' * (count > 1)}", workers=count, cores=2)


def pooled(target: Target) -> Target:
    return replace(target, name=f"{target.name}, PgBouncer", is_pooled=True)


def wrk_or_stop() -> None:
    if not machine.version_of("wrk", "--version"):
        raise StartError("wrk is missing. Debian and Ubuntu have it: apt install wrk")


def _warm_up(server: Server) -> None:
    _wrk(server, 16, WARM_UP_SECONDS)


def _list(connections: int, seconds: float, server: Server, environment: Environment) -> Sample:
    with _with_cpu_time(server, environment) as sample:
        sample |= _wrk(server, connections, seconds)
    return sample


def _stream(clients: int, seconds: float, server: Server, environment: Environment) -> Sample:
    load = Load(server.url, server.credentials.good, create(DELTAS, 0), STREAM_END, clients, each=1_000_000)
    with _client(load):  # warm up with one stream for each client
        pass
    load.seconds = seconds
    with _with_cpu_time(server, environment) as sample, _client(load) as result:
        result()  # returns when each client has had its first event
        sample |= result()
    return sample


def _slow(streams: int, seconds: float, server: Server, environment: Environment) -> Sample:
    # Time for a server that opens 80 streams a second, for the measurement after that, and a margin.
    length = streams / 80 + 2 * seconds + 5
    load = Load(
        server.url,
        server.credentials.good,
        create(DELTAS, length),
        STREAM_END,
        streams,
        beginning=STREAM_DELTA,
        timeout=2 * length,
    )
    pause_ms = 1000 * PACED_CONNECTIONS // PACED_PER_SECOND
    _wrk(server, PACED_CONNECTIONS, WARM_UP_SECONDS)
    alone = _wrk(server, PACED_CONNECTIONS, 2 * seconds, pause_ms)
    before = machine.use(server.pid)
    with _client(load) as result:
        opened = result()["open"]
        meanwhile = _wrk(server, PACED_CONNECTIONS, 2 * seconds, pause_ms)
        during, connections = machine.use(server.pid), _connections(environment)
        measured_at = time.monotonic()
        streamed = result()
    return {
        "idle_p99": alone["p99"],
        "p99": meanwhile["p99"],
        "slowdown": meanwhile["p99"] / alone["p99"] if alone["p99"] else 0.0,
        # This counts only if no stream had ended when the measurement was complete.
        "open": opened if streamed["first_ended_at"] > measured_at else 0.0,
        "last_first_event": streamed["last"],
        "connections": connections,
        "stream_kb": (during.resident_kb - before.resident_kb) / streams,
        "threads": during.threads,
        "errors": alone["errors"] + meanwhile["errors"] + streamed["errors"],
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
def _with_cpu_time(server: Server, environment: Environment) -> Iterator[Sample]:
    """Yields a sample, and adds the CPU time of a request in the server and in PostgreSQL."""
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
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise StartError(f"{done.stdout}{done.stderr}\nwrk ended with status {done.returncode}.")
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return sample


@contextmanager
def _client(load: Load) -> Iterator[Callable[[], Any]]:
    """Start the client process. Yields a function that waits for its next line of JSON. Waits for its end."""
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
    """The connections of the server to the database."""
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
        return float(row[0]) if row else 0.0
