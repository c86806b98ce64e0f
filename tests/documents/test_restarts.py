"""Two replicas behind nginx are restarted one after the other, as docs/restarts.md says, while users chat."""

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
    """Running servers, one at each port."""

    def __init__(self, start: Callable[[int], Any], ports: list[int]) -> None:
        self._start, self._running = start, {port: ExitStack() for port in ports}
        for port in ports:
            self._running[port].enter_context(start(port))

    def restart(self, port: int) -> None:
        self._running[port].close()
        self._running[port].enter_context(self._start(port))

    def stop(self) -> None:
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
    running.stop()


@contextmanager
def nginx(folder: Path, port: int, ports: list[int]) -> Iterator[Path]:
    """Run nginx with this page's upstream and docs/deployment.md's location; yield the upstream's file."""
    upstream = folder / "chatbackend.conf"
    upstream.write_text(with_ports(ports, UPSTREAM.text))
    location = re.search(r"    location / \{.*?\n    \}\n", DEPLOYED.text, re.DOTALL)
    assert location
    proxied = location[0].replace("http://127.0.0.1:8000", "http://chatbackend")
    block = f"include {upstream};\nserver {{ listen 127.0.0.1:{port};\n{proxied}}}"
    with programs.nginx(folder, block, port, "/support/health"):
        yield upstream


def with_ports(ports: list[int], text: str) -> str:
    """The text with the page's ports replaced by these."""
    return text.replace("8001", str(ports[0])).replace("8002", str(ports[1]))


# The script runs on a machine with systemd. These functions replace the programs that it calls: systemctl
# asks the test to restart a replica, and waits for it.
REPLACED_PROGRAMS = """
set -e
systemctl() {{ echo "$2" > "{folder}/asked"; until [ -e "{folder}/done-$2" ]; do sleep 0.1; done; }}
nginx() {{ command nginx -e stderr -c "{folder}/nginx.conf" "$@"; }}
curl() {{ command "{python}" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[3])' "$@" 2>/dev/null; }}
"""


def test_a_rolling_restart_refuses_no_request_and_stores_partial_answers(
    tmp_path: Path, replicas: tuple[Replicas, list[int]], person: Person
) -> None:
    running, ports = replicas
    port, token, finished = free_port(), person.token(), threading.Event()
    api = Api(f"http://127.0.0.1:{port}", tmp_path / "log")
    listed: list[int] = []
    answered: list[list[dict[str, Any]]] = []

    def list_threads() -> None:
        while not finished.wait(0.05):
            listed.append(api.post(operation("threads.list"), token).status_code)

    def chat(message: str) -> None:
        while not finished.is_set():
            answered.append(api.events(create(message), token))

    def wait_for_systemctl(unit: str) -> None:
        file = tmp_path / "asked"
        eventually(lambda: file.read_text() if file.exists() else "", lambda text: unit in text)

    with nginx(tmp_path, port, ports) as upstream, ThreadPoolExecutor(6) as users:
        clients = [users.submit(list_threads), users.submit(list_threads)]
        clients += [users.submit(chat, "for 1 second"), users.submit(chat, "for 1 second")]
        clients += [users.submit(chat, "for 60 seconds"), users.submit(chat, "for 60 seconds")]
        script = with_ports(ports, SCRIPT.text).replace(CONF, str(upstream))
        replaced = REPLACED_PROGRAMS.format(folder=tmp_path, python=sys.executable)
        with subprocess.Popen(
            ["bash", "-c", replaced + script], env=os.environ | {"PATH": programs.PATH}
        ) as rolling:
            for each in ports:
                wait_for_systemctl(f"chatbackend@{each}")
                running.restart(each)
                (tmp_path / f"done-chatbackend@{each}").touch()
            assert rolling.wait(60) == 0
        finished.set()
        running.stop()  # this also ends the longest answers
        for client in clients:
            client.result()

    complete = [events for events in answered if not events_of_type(events, "error")]
    cut = [events for events in answered if events_of_type(events, "error")]
    assert set(listed) == {200}
    assert complete
    assert len(cut) >= 2  # the long answers ended with their replicas
    for events in cut:
        assert events[-1] == {"type": "error", "code": "stream.error", "allow_retry": True}
        [_, words] = texts_of(items_of(person, thread_id_of(events)))
        assert set(words.split()) == {"word"}
