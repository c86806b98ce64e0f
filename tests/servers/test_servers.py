"""Our application on each ASGI server, with our handler and with Django's.

docs/compatibility.md has a table with these servers. ``make servers`` runs this file.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from chatbackend.dev.processes import child, free_port, wait_until_it_answers
from tests.fixtures.accounts.people import Person
from tests.fixtures.code_blocks import blocks
from tests.fixtures.conversations import deltas_of, disconnect_after, items_of, texts_of, types_of
from tests.fixtures.environment import process_environment
from tests.fixtures.servers.api import Api, arrive_one_by_one, create, eventually

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

APPLICATION = "chatbackend.asgi:application"
GRACE = "2"  # seconds for open streams at a shutdown
SERVERS = {
    "uvicorn": f"uvicorn {APPLICATION} --port {{port}} --ws none --timeout-graceful-shutdown {GRACE}",
    "gunicorn": f"gunicorn {APPLICATION} --bind 127.0.0.1:{{port}} --worker-class worker.ChatWorker",
    "hypercorn": f"hypercorn {APPLICATION} --bind 127.0.0.1:{{port}} --graceful-timeout {GRACE}",
    "daphne": f"daphne {APPLICATION} --bind 127.0.0.1 --port {{port}}",
    "granian": f"granian {APPLICATION} --port {{port}} --interface asgi --no-ws",
}
HANDLERS = {
    "our handler": "runtime.handler.WorkerThreadHandler",
    "Django's handler": "django.core.handlers.asgi.ASGIHandler",
}
# These wait until all streams are complete. Since Python 3.12, hypercorn waits for all connections before its
# time limit begins.
WAIT_FOR_STREAMS = {"granian", *(["hypercorn"] if sys.version_info >= (3, 12) else [])}
[WORKER] = blocks("test_servers.py", "python")

COMPLETE = ["user_message", "assistant_message"]
STOPPED = [*COMPLETE, "sdk_hidden_context"]
ERROR = {"type": "error", "code": "stream.error", "allow_retry": True}


@contextmanager
def running(server: str, handler: str, database_url: str, folder: Path) -> Iterator[tuple[Api, Popen[str]]]:
    port = free_port()
    api = Api(f"http://localhost:{port}", folder / "log")
    env = process_environment(
        DATABASE_URL=database_url,
        PUBLIC_URL=api.origin,
        ASGI_HANDLER=HANDLERS[handler],
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.SlowServer",
        SUPPORT_RATE_PER_USER="100000/min",
        PYTHONPATH=str(folder),
    )
    (folder / "worker.py").write_text(WORKER.text.replace('_shutdown": 10', f'_shutdown": {GRACE}'))
    command = [sys.executable, "-m", *SERVERS[server].format(port=port).split()]
    with api.log.open("w") as log, child(command, env=env, stdout=log) as process:
        wait_until_it_answers(process, port, "/support/health", server, api.log.read_text)
        yield api, process


@pytest.fixture(scope="module", params=HANDLERS)
def handler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def api(
    auth: Any, server: str, handler: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    with running(server, handler, database_url, tmp_path_factory.mktemp("server")) as (running_api, _):
        yield running_api


def test_each_event_arrives_when_it_is_made(api: Api, person: Person) -> None:
    token, sent = person.token(), time.monotonic()

    with api.stream(create("for 2 seconds"), token) as events:
        arrivals = [time.monotonic() for _ in events]

    assert arrive_one_by_one(arrivals, sent)


def test_if_the_client_leaves_the_work_stops_and_the_partial_answer_is_stored(
    api: Api, person: Person
) -> None:
    thread_id = disconnect_after(api, person, create("until I leave"), "word ")

    stored = eventually(lambda: items_of(person, thread_id), lambda items: len(items) == len(STOPPED))

    assert types_of(stored) == STOPPED
    assert texts_of(stored)[1].startswith("word ")


def test_a_sigterm_in_mid_stream_loses_nothing(
    auth: Any, server: str, handler: str, database_url: str, tmp_path: Path, person: Person
) -> None:
    token = person.token()
    with running(server, handler, database_url, tmp_path) as (api, process):
        with api.stream(create("for 5 seconds"), token) as events:
            thread_id = next(events)[1]["thread"]["id"]
            next(event for _, event in events if deltas_of([event]) == ["word "])
            process.send_signal(signal.SIGTERM)
            *_, (_, last) = events
        process.wait(15)

    stored = items_of(person, thread_id)
    if server in WAIT_FOR_STREAMS:
        assert (last["type"], types_of(stored)) == ("thread.item.done", COMPLETE)
    else:
        assert (last, types_of(stored)) == (ERROR, STOPPED)
        assert texts_of(stored)[1].startswith("word ")
