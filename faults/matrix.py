"""Applies each fault of the database under load, and reports answers, waiting times and lost messages."""

import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.environment import Environment
from benchmarks.targets import OURS
from faults import database as faults
from faults.database import Database, Fault
from faults.load import Answer, Load

BEFORE_SECONDS, AFTER_SECONDS = 2.0, 4.0

# The end of the sentence "The database …", the duration in seconds, and the fault.
FAULTS: dict[str, tuple[str, float, Fault]] = {
    "restart": ("is restarted", 0, faults.restarted),
    "suspend": ("closes every connection (Neon's suspend, a failover)", 0, faults.suspended),
    "crash": ("crashes and recovers", 0, faults.crashed),
    "stop": ("is stopped", 10, faults.stopped),
    "freeze": ("hangs", 20, faults.frozen),
    "lock": ("has a locked table, so statements time out", 15, faults.locked),
    "full": ("has no free connection", 8, faults.full),
    "read-only": ("is read-only", 12, faults.read_only),
    "disk": ("has no disk space", 12, faults.out_of_disk),
}

HEAD = (
    "| the database | for | requests | served | 503 or `error` event | anything else | longest wait |"
    " longest silence in a stream | recovered after | messages lost |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass
class Row:
    title: str
    seconds: float
    answers: list[Answer]
    ended_at: float
    lost: int

    def __str__(self) -> str:
        served = sum(answer.served for answer in self.answers)
        specified = sum(answer.as_specified for answer in self.answers)
        wait = max(answer.wait for answer in self.answers)
        silence = max(answer.silence for answer in self.answers)
        failed = [answer.began for answer in self.answers if not answer.served]
        recovery = max(0.0, max(failed, default=0.0) - self.ended_at)
        return (
            f"| {self.title} | {self.seconds:.1f} s | {len(self.answers):,} | {served:,} |"
            f" {specified - served:,} | {len(self.answers) - specified} | {wait:.1f} s | {silence:.1f} s |"
            f" {recovery:.1f} s | {self.lost} |"
        )


def matrix(environment: Environment, database: Database, names: Iterable[str]) -> str:
    rows = []
    with environment.running(OURS) as server:
        for name in names:
            title, seconds, fault = FAULTS[name]
            rows.append(_row(title, seconds, fault, database, server.port, server.credentials.good))
            print(rows[-1], file=sys.stderr, flush=True)
            unexpected = Counter(answer.fault for answer in rows[-1].answers if not answer.as_specified)
            if unexpected:
                print(dict(unexpected), file=sys.stderr, flush=True)
    return "\n".join([HEAD, *map(str, rows)])


def _row(
    title: str, seconds: float, fault: Fault, database: Database, port: int, credentials: list[str]
) -> Row:
    load = Load(port, credentials)
    time.sleep(BEFORE_SECONDS)
    began = time.monotonic()
    with fault(database):
        time.sleep(seconds)
    ended_at = time.monotonic()
    time.sleep(AFTER_SECONDS)
    while time.monotonic() < ended_at + 60 and not _all_served(load.answers, since=time.monotonic() - 3):
        time.sleep(0.5)
    answers = load.stop()
    return Row(title, ended_at - began, answers, ended_at, _lost(database, answers))


def _all_served(answers: list[Answer], since: float) -> bool:
    return all(answer.served for answer in list(answers) if answer.ended > since)


def _lost(database: Database, answers: list[Answer]) -> int:
    """The number of items that a stream reported as done and the table does not contain."""
    stored = [item for answer in answers for item in answer.stored]
    with database.connected() as connection:
        rows = connection.execute("SELECT item_id FROM support_item WHERE item_id = ANY(%s)", [stored])
        return len(set(stored) - {item for (item,) in rows})
