"""Mixed traffic without pauses, and the growth of the server process meanwhile."""

import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks.environment import PATH, Environment, Server
from benchmarks.measuring import machine
from benchmarks.measuring.client import create
from benchmarks.targets import OURS, Target
from faults.load import CHAT, LIST, ask

CLIENTS = 16
LONG_CHAT = create(deltas=50, seconds=5)
FILE = b"A line of a text.\n" * 10_000
SAMPLE_SECONDS = 10.0
HEAD = "| minute | requests | resident MB | threads | open files | connections |\n|---|---|---|---|---|---|"


@dataclass
class Sample:
    seconds: float
    requests: int
    resident_mb: float
    threads: int
    files: int
    connections: int

    def __str__(self) -> str:
        return (
            f"| {self.seconds / 60:.1f} | {self.requests:,} | {self.resident_mb:.1f} | {self.threads} |"
            f" {self.files} | {self.connections} |"
        )


def soak(environment: Environment, minutes: float) -> str:
    outcomes: Counter[str] = Counter()
    stopped = threading.Event()
    samples: list[Sample] = []
    with (
        tempfile.TemporaryDirectory() as attachments,
        environment.running(_with_uploads(attachments)) as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        clients = [pool.submit(_run_client, server, stopped, outcomes) for _ in range(CLIENTS)]
        began = time.monotonic()
        while time.monotonic() - began < 60 * minutes:
            time.sleep(SAMPLE_SECONDS)
            samples.append(_sample(server, time.monotonic() - began, sum(outcomes.values())))
            print(samples[-1], file=sys.stderr, flush=True)
        stopped.set()
        for client in clients:
            client.result()
        time.sleep(SAMPLE_SECONDS)  # without requests
        samples.append(_sample(server, time.monotonic() - began, sum(outcomes.values())))
    every = max(1, len(samples) // 12)
    half = samples[len(samples) // 2 :]
    rows = [HEAD, *map(str, samples[:-1:every]), str(samples[-1])]
    growth = 1000 * _slope([(sample.requests, sample.resident_mb) for sample in half[:-1]])
    summary = ", ".join(f"{what} {count:,}" for what, count in sorted(outcomes.items()))
    return "\n".join(
        [*rows, "", f"{summary}.", f"Growth in the second half: {growth:+.3f} MB per 1,000 requests."]
    )


def _with_uploads(folder: str) -> Target:
    """Our server with its local responder and an attachment directory."""
    own = {"CHATKIT_SERVER": "support.server.SupportServer", "ATTACHMENT_DIRECTORY": folder}
    return replace(OURS, env=OURS.env | own)


def _run_client(server: Server, stopped: threading.Event, outcomes: "Counter[str]") -> None:
    kinds, weights = zip(*TRAFFIC.items(), strict=True)
    while not stopped.is_set():
        [kind] = random.choices(kinds, weights)
        try:
            outcomes[f"{kind.__name__} {kind(server)}"] += 1
        except (OSError, HTTPException) as exc:
            outcomes[f"{kind.__name__} {type(exc).__name__}"] += 1


def lists(server: Server) -> int:
    return ask(server.port, LIST, _credential(server)).status


def chats(server: Server) -> int:
    return ask(server.port, CHAT, _credential(server)).status


def disconnects(server: Server) -> int:
    """Disconnect during a stream."""
    return _post(server, LONG_CHAT, _credential(server), whole=False)


def refused(server: Server) -> int:
    return ask(server.port, LIST, random.choice(list(server.credentials.bad.values()))).status


def uploads(server: Server) -> int:
    credential, connection = _credential(server), HTTPConnection("127.0.0.1", server.port, timeout=30)
    params = {"name": "a.txt", "size": len(FILE), "mime_type": "text/plain"}
    body, headers = json.dumps({"type": "attachments.create", "params": params}), _headers(credential)
    connection.request("POST", PATH, body, headers)
    upload = json.load(connection.getresponse())["upload_descriptor"]
    connection.request("PUT", upload["url"], FILE, headers | {"Content-Type": "text/plain"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def malformed(server: Server) -> int:
    return _post(server, '{"params": ' + "[" * 500, _credential(server))


TRAFFIC: dict[Callable[[Server], int], int] = {
    lists: 50,
    chats: 20,
    disconnects: 10,
    refused: 15,
    uploads: 3,
    malformed: 2,
}


def _post(server: Server, body: str, credential: str, *, whole: bool = True) -> int:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", PATH, body, _headers(credential))
    response = connection.getresponse()
    response.read() if whole else response.readline()
    connection.close()
    return response.status


def _headers(credential: str) -> dict[str, str]:
    name, _, value = credential.partition(": ")
    return {name: value, "Content-Type": "application/json"}


def _credential(server: Server) -> str:
    return random.choice(server.credentials.good)


def _sample(server: Server, seconds: float, requests: int) -> Sample:
    use = machine.use(server.pid)
    files = list(Path(f"/proc/{server.pid}/fd").iterdir())
    sockets = sum(1 for file in files if _is_socket(file))
    return Sample(seconds, requests, use.resident_kb / 1024, use.threads, len(files), sockets)


def _is_socket(file: Path) -> bool:
    try:
        return str(file.readlink()).startswith("socket:")
    except OSError:
        return False


def _slope(points: list[tuple[float, float]]) -> float:
    """The slope of the least-squares line."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
