"""The metrics port: off by default, wrong settings, and several worker processes."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.conf import settings
from prometheus_client.mmap_dict import MmapedDict

from chatbackend.checks import check_settings
from chatbackend.dev.processes import free_port
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import process_environment
from tests.fixtures.servers.api import Api, create, eventually, operation
from tests.fixtures.servers.forkserver import python, uvicorn
from tests.fixtures.servers.metrics import (
    ATTEMPTS,
    STREAMS,
    Metrics,
    ScrapedServer,
    output_of,
    scrape,
)

# --- Off, and wrong settings ----------------------------------------------------------------------

LIFESPAN = """
import asyncio, sys
from chatbackend.asgi import application
from support import api_view

async def main():
    received = asyncio.Queue()
    received.put_nowait({"type": "lifespan.startup"})
    sent = asyncio.Queue()
    running = asyncio.create_task(application({"type": "lifespan"}, received.get, sent.put))
    print((await sent.get())["type"], "prometheus_client" in sys.modules, bool(api_view.answered.receivers))
    running.cancel()

asyncio.run(main())
"""


def test_without_a_port_nothing_is_served_counted_or_imported(auth: Any, database_url: str) -> None:
    output = output_of(LIFESPAN, DATABASE_URL=database_url)

    assert output.splitlines()[-1] == "lifespan.startup.complete False False"


def test_a_port_in_use_stops_the_start(auth: Any, scraped: ScrapedServer, database_url: str) -> None:
    program = (
        f"from uvicorn.main import main; main(['chatbackend.asgi:application', '--port', '{free_port()}'])"
    )

    done = python(program, DATABASE_URL=database_url, METRICS_PORT=str(scraped.port))

    assert done.returncode != 0
    assert "METRICS_PORT" in done.stdout + done.stderr


def test_without_the_lifespan_protocol_the_first_request_opens_the_port(
    auth: Any, start_api: Callable[..., Any], scraped: ScrapedServer
) -> None:
    port = free_port()
    with start_api(METRICS_PORT=str(port), UVICORN_LIFESPAN="off"):  # its fixture sends the first request
        assert scrape(port)

    with start_api(METRICS_PORT=str(scraped.port), UVICORN_LIFESPAN="off") as without_metrics:
        assert "METRICS_PORT: [Errno" in without_metrics.log.read_text()


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"METRICS_PORT": 65_536}, "E006"),
        ({"METRICS_PORT": -1}, "E006"),
        ({"METRICS_ADDRESS": "localhost"}, "E007"),
        ({"METRICS_ADDRESS": ""}, "E007"),
        ({"METRICS_DIRECTORY": "/nowhere/at/all"}, "E008"),
        ({"METRICS_DIRECTORY": __file__}, "E008"),
        ({"WEB_CONCURRENCY": "2"}, "E009"),
    ],
    ids=str,
)
def test_a_wrong_metrics_setting_is_a_check_error(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], fault: str
) -> None:
    for name, value in ({"METRICS_PORT": 9100} | wrong).items():
        if name == "WEB_CONCURRENCY":
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.setattr(settings, name, value)

    assert [message.id for message in check_settings()] == [f"chatbackend.{fault}"]


def test_valid_metrics_settings_pass_the_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "METRICS_PORT", 9100)
    monkeypatch.setattr(settings, "METRICS_ADDRESS", "::1")
    monkeypatch.setattr(settings, "METRICS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("WEB_CONCURRENCY", "4")

    assert check_settings() == []


# --- Several workers ------------------------------------------------------------------------------


@dataclass
class Workers(ScrapedServer):
    directory: Path

    def process_ids(self) -> set[int]:
        return {int(file.stem.rpartition("_")[2]) for file in self.directory.glob("counter_*.db")}

    def value_of(self, process_id: int, name: str) -> float:
        """The value in the files of one worker."""
        files = [str(file) for file in self.directory.glob(f"*_{process_id}.db")]
        values = [each for file in files for each in MmapedDict.read_all_values_from_file(file)]
        return sum(value for key, value, *_ in values if json.loads(key)[1] == name)


@pytest.fixture
def workers(auth: Any, database_url: str, tmp_path: Path) -> Iterator[Workers]:
    """A server with two worker processes."""
    port, metrics_port = free_port(), free_port()
    env = process_environment(
        DATABASE_URL=database_url,
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.SlowServer",
        SUPPORT_RATE_PER_USER="100000/min",
        METRICS_PORT=str(metrics_port),
        METRICS_DIRECTORY=str(tmp_path),
    )
    arguments = ["chatbackend.asgi:application", "--port", str(port), "--ws", "none"]
    arguments += ["--workers", "2", "--timeout-graceful-shutdown", "2"]
    with uvicorn(arguments, env, port, tmp_path / "log"):
        running = Workers(Api(f"http://localhost:{port}", tmp_path / "log"), metrics_port, tmp_path)
        eventually(running.process_ids, lambda found: len(found) == 2)
        yield running


def test_each_worker_answers_for_all_workers_even_for_one_that_has_ended(
    workers: Workers, person: Person
) -> None:
    token, asked = person.token(), 0

    def both_have_answered() -> bool:
        return all(workers.value_of(each, ATTEMPTS) for each in workers.process_ids())

    while asked < 200 and not both_have_answered():
        assert workers.api.post(operation("threads.list"), token).status_code == 200
        asked += 1
    assert both_have_answered()
    # The kernel chooses the worker. With 20 requests, both answer some.
    assert {workers.metrics().of(ATTEMPTS, reason="ok") for _ in range(20)} == {asked}

    with workers.api.stream(create("until I leave"), token) as events:
        next(events)
        eventually(workers.metrics, lambda metrics: metrics.of(STREAMS) == 1)
        [busy] = [each for each in workers.process_ids() if workers.value_of(each, STREAMS)]
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(httpx2.HTTPError):
            list(events)

    # Its open stream is no longer counted. Its counters remain.
    eventually(lambda: scrape_or_nothing(workers), lambda metrics: metrics.of(STREAMS) == 0 and bool(metrics))
    assert workers.metrics().of(ATTEMPTS, reason="ok") == asked + 1
    assert not list(workers.directory.glob(f"gauge_live*_{busy}.db"))


def scrape_or_nothing(workers: Workers) -> Metrics:
    try:
        return workers.metrics()
    except httpx2.HTTPError:  # the request went to the worker that has ended
        return Metrics()


RESTARTED = """
import os, pathlib
for file in pathlib.Path(os.environ["METRICS_DIRECTORY"]).glob("*.db"):  # as if this process had the same id
    file.rename(file.with_name(f"{file.stem.rpartition('_')[0]}_{os.getpid()}.db"))
import django; django.setup()
from chatbackend.metrics import exposition
exposition.start()
from chatbackend.metrics import collectors as metrics
metrics.STREAMS_OPEN.inc()
metrics.MODEL_ERRORS.labels("busy").inc()
import prometheus_client
print(prometheus_client.generate_latest(exposition._registry()).decode())
"""


def test_a_worker_keeps_the_counters_of_an_earlier_process_with_its_id(tmp_path: Path) -> None:
    for times in ("1.0", "2.0"):
        env = {"METRICS_PORT": str(free_port()), "METRICS_DIRECTORY": str(tmp_path)}

        output = output_of(RESTARTED, **env)

        assert f'chatbackend_model_errors_total{{kind="busy"}} {times}' in output
        assert "chatbackend_streams_open 1.0" in output
