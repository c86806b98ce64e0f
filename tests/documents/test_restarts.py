"""Two replicas behind nginx, restarted one after the other as docs/restarts.md says, while people chat."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatbackend.dev.processes import free_port
from tests.fixtures import programs
from tests.fixtures.accounts.people import Person
from tests.fixtures.code_blocks import blocks
from tests.fixtures.conversations import events_of_type, items_of, texts_of, thread_id_of
from tests.fixtures.servers.api import Api, create, eventually, operation

pytestmark = pytest.mark.django_db(transaction=True)

[UPSTREAM] = blocks("test_restarts.py", "nginx")
[SCRIPT] = blocks("test_restarts.py", "sh")
DEPLOYED, *_ = blocks("test_deployment.py", "nginx")
CONF = "/etc/nginx/conf.d/chatbackend.conf"


class Replicas:
    """Each at a port of its own."""

    def __init__(self, start: Callable[[int], Any], ports: list[int]) -> None:
        self._start, self._running = start, {port: ExitStack() for port in ports}
        for port in ports:
            self._running[port].enter_context(start(port))

    def restart(self, port: int) -> None:
        self._running[port].close()
        self._running[port].enter_context(self._start(port))

    def end(self) -> None:
        for running in self._running.values():
            running.close()


@pytest.fixture
def replicas(auth: Any, start_api: Callable[..., Any]) -> Iterator[tuple[Replicas, list[int]]]:
    env = {
        "CHATKIT_SERVER": "tests.fixtures.chatkit.servers.SlowServer",
        "SUPPORT_RATE_PER_USER": "100000/min",
    }
    ports = [free_port(), free_port()]
    running = Replicas(lambda port: start_api(port=port, **env), ports)
    yield running, ports
    running.end()


@contextmanager
def nginx(folder: Path, port: int, ports: list[int]) -> Iterator[Path]:
    """The page's upstream and the other page's location; yields the file that the script changes."""
    upstream = folder / "chatbackend.conf"
    upstream.write_text(at(ports, UPSTREAM.text))
    location = re.search(r"    location / \{.*?\n    \}\n", DEPLOYED.text, re.DOTALL)
    assert location
    passed = location[0].replace("http://127.0.0.1:8000", "http://chatbackend")
    block = f"include {upstream};\nserver {{ listen 127.0.0.1:{port};\n{passed}}}"
    with programs.nginx(folder, block, port, "/support/health"):
        yield upstream


def at(ports: list[int], text: str) -> str:
    """With our ports in place of the page's."""
    return text.replace("8001", str(ports[0])).replace("8002", str(ports[1]))


# What the script calls on a machine with systemd, and that the test does for it.
AROUND = """
set -e
systemctl() {{ echo "$2" > "{folder}/asked"; until [ -e "{folder}/done-$2" ]; do sleep 0.1; done; }}
nginx() {{ command nginx -e stderr -c "{folder}/nginx.conf" "$@"; }}
curl() {{ command "{python}" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[3])' "$@" 2>/dev/null; }}
"""


def test_a_rolling_restart_refuses_nobody_and_keeps_what_was_said(
    tmp_path: Path, replicas: tuple[Replicas, list[int]], person: Person
) -> None:
    running, ports = replicas
    port, token, over = free_port(), person.token(), threading.Event()
    api = Api(f"http://127.0.0.1:{port}", tmp_path / "log")
    listed: list[int] = []
    answered: list[list[dict[str, Any]]] = []

    def look() -> None:
        while not over.wait(0.05):
            listed.append(api.post(operation("threads.list"), token).status_code)

    def chat(order: str) -> None:
        while not over.is_set():
            answered.append(api.events(create(order), token))

    with nginx(tmp_path, port, ports) as upstream, ThreadPoolExecutor(6) as people:
        asking = [people.submit(look), people.submit(look)]
        asking += [people.submit(chat, "for 1 second"), people.submit(chat, "for 1 second")]
        asking += [people.submit(chat, "for 60 seconds"), people.submit(chat, "for 60 seconds")]
        script = at(ports, SCRIPT.text).replace(CONF, str(upstream))
        around = AROUND.format(folder=tmp_path, python=sys.executable)
        with subprocess.Popen(
            ["bash", "-c", around + script], env=os.environ | {"PATH": programs.PATH}
        ) as rolling:
            for each in ports:
                unit = f"chatbackend@{each}"
                asked = tmp_path / "asked"
                eventually(lambda: asked.read_text() if asked.exists() else "", lambda said: unit in said)  # noqa: B023
                running.restart(each)
                (tmp_path / f"done-{unit}").touch()
            assert rolling.wait(60) == 0
        over.set()
        running.end()  # the longest ones', too
        for client in asking:
            client.result()

    whole = [events for events in answered if not events_of_type(events, "error")]
    cut = [events for events in answered if events_of_type(events, "error")]
    assert set(listed) == {200}
    assert whole
    assert len(cut) >= 2  # each of the long ones ended with its replica
    for events in cut:
        assert events[-1] == {"type": "error", "code": "stream.error", "allow_retry": True}
        [_, words] = texts_of(items_of(person, thread_id_of(events)))
        assert set(words.split()) == {"word"}
