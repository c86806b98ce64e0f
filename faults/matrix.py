"""Each fault of a database, under load: who was told what, for how long, and whether anything was lost."""

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

# What happens, for how many seconds, and how.
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
    over_at: float
    lost: int

    def __str__(self) -> str:
        served = sum(answer.served for answer in self.answers)
        specified = sum(answer.as_specified for answer in self.answers)
        wait = max(answer.wait for answer in self.answers)
        silence = max(answer.silence for answer in self.answers)
        missed = [answer.began for answer in self.answers if not answer.served]
        recovery = max(0.0, max(missed, default=0.0) - self.over_at)
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
            others = Counter(answer.fault for answer in rows[-1].answers if not answer.as_specified)
            if others:
                print(dict(others), file=sys.stderr, flush=True)
    return "\n".join([HEAD, *map(str, rows)])


def _row(
    title: str, seconds: float, fault: Fault, database: Database, port: int, credentials: list[str]
) -> Row:
    load = Load(port, credentials)
    time.sleep(BEFORE_SECONDS)
    began = time.monotonic()
    with fault(database):
        time.sleep(seconds)
    over_at = time.monotonic()
    time.sleep(AFTER_SECONDS)
    while time.monotonic() < over_at + 60 and not _all_served(load.answers, since=time.monotonic() - 3):
        time.sleep(0.5)
    answers = load.stop()
    return Row(title, over_at - began, answers, over_at, _lost(database, answers))


def _all_served(answers: list[Answer], since: float) -> bool:
    return all(answer.served for answer in list(answers) if answer.ended > since)


def _lost(database: Database, answers: list[Answer]) -> int:
    """Items that a client was told of and the table does not have."""
    kept = [item for answer in answers for item in answer.kept]
    with database.connected() as connection:
        rows = connection.execute("SELECT item_id FROM support_item WHERE item_id = ANY(%s)", [kept])
        return len(set(kept) - {item for (item,) in rows})
