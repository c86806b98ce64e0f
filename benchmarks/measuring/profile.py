"""The CPU time of one request by layer, beside the minimum cost of each layer.

Our application runs in this process, on uvicorn and with production settings. A process on another core
sends requests one after another.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import uvicorn

from benchmarks.cases import DELTAS
from benchmarks.data import reset_chats
from benchmarks.environment import FOLDER, LIST, PATH, Environment
from benchmarks.measuring import machine
from benchmarks.measuring.client import create
from benchmarks.measuring.instrumentation import Boundary, Cost, Instrumentation, cost_by_layer
from benchmarks.targets import OURS
from chatbackend.dev.processes import TOP, StartError

BLOCKS = 5

SERVER, HANDLER = "server and event loop", "handler and its thread switches"
MIDDLEWARE, VIEW, THROTTLE = "middleware, URLs", "DRF, view", "rate limit"
IDENTITY, CONNECTION, AUDIT = "identity", "connections", "audit log"
TOKEN, PARSING = "token, already verified", "our check of the body"
CHATKIT, STORE = "ChatKit", "store"
STREAM, SERIALIZATION, ANSWER = "stream", "ChatKit's JSON of the events", "the benchmark's own answer"

COMMON = [
    Boundary("django.core.handlers.base.BaseHandler.get_response", MIDDLEWARE),
    Boundary("support.views.ChatKitView.dispatch", VIEW),
    Boundary("rest_framework.throttling.SimpleRateThrottle.allow_request", THROTTLE),
    Boundary("authn.jwt.tokens.verify", TOKEN),
    Boundary("authn.sessions.resolve", IDENTITY),
    Boundary("authn.audit.Attempt.log_accepted", AUDIT),
    Boundary("support.chat.protocol.parse", PARSING),
    Boundary("chatkit.server.ChatKitServer.process", CHATKIT),
    Boundary("psycopg.Cursor.execute", "SQL statement"),
    Boundary(
        "django.db.backends.base.base.BaseDatabaseWrapper.ensure_connection", CONNECTION, is_optional=True
    ),
    Boundary(
        "django.db.backends.base.base.BaseDatabaseWrapper.close_if_unusable_or_obsolete",
        CONNECTION,
        is_optional=True,
    ),
]
BOUNDARIES = {
    "threads.list": [*COMMON, Boundary("support.storage.threads.load_page", STORE)],
    "threads.create": [
        *COMMON,
        Boundary("support.chat.streaming.begin_in_thread", STREAM),
        Boundary("support.chat.streaming._Stream.go_on", STREAM),
        Boundary("support.chat.streaming.EventStream.events", STREAM),
        Boundary("support.chat.unstored_messages.undo_unless_stored", STREAM),
        Boundary("chatkit.server.ChatKitServer._process_streaming", CHATKIT),
        Boundary("chatkit.server.ChatKitServer._serialize", SERIALIZATION),
        Boundary("benchmarks.servers.script.respond", ANSWER),
        Boundary("support.storage.items.save_first", STORE),
        Boundary("support.storage.items.save", STORE),
    ],
}
BODIES = {"threads.list": LIST, "threads.create": create(DELTAS, 0)}
THREAD_LAYERS = {"": HANDLER, STORE: STORE}
STORE_STATEMENT = f"SQL statement of {STORE}"
IDENTITY_STATEMENT = f"SQL statement of {IDENTITY}"
ORDER = [
    *[SERVER, HANDLER, MIDDLEWARE, VIEW, THROTTLE, TOKEN, IDENTITY, IDENTITY_STATEMENT, CONNECTION],
    *[AUDIT, PARSING, CHATKIT, SERIALIZATION, ANSWER, STREAM, STORE, STORE_STATEMENT],
]


def profile(environment: Environment, operation: str, requests: int) -> str:
    """Returns Markdown. ``operation``: a key of BODIES. ``requests``: in all blocks together."""
    reset_chats(environment.database_url, environment.issuer.population)
    machine.pin(os.getpid(), environment.reserve_cores(OURS))
    known = {"DATABASE_URL": environment.database_url, "BETTER_AUTH_URL": environment.issuer.origin}
    os.environ |= OURS.env | known | {"DJANGO_SETTINGS_MODULE": "chatbackend.settings"}
    with (FOLDER / "profile.log").open("w") as log, redirect_stdout(log):  # the audit log is on stdout
        from chatbackend.asgi import application

        credentials = environment.issuer.credentials("eddsa").good
        block = max(1, requests // BLOCKS)
        measured = partial(_measured, BODIES[operation], credentials, block)
        bare = measured(application, Instrumentation(THREAD_LAYERS))
        hello = measured(_hello, Instrumentation(THREAD_LAYERS))
        instrumentation = Instrumentation(THREAD_LAYERS)
        instrumentation.install(BOUNDARIES[operation])
        whole = measured(instrumentation.application(HANDLER, application), instrumentation)
        instrumentation.check()
    text = f"One `{operation}` request: medians of {BLOCKS} blocks of {block} requests."
    token = credentials[0].rpartition(" ")[2]
    return _report(text, environment, whole, bare.total, hello.total, instrumentation, token, block)


@dataclass(frozen=True, slots=True)
class Profile:
    """µs of CPU per request. ``total``: of the process. ``layers``: the wrapped ones, and the rest."""

    total: float
    layers: dict[str, Cost]


@dataclass(slots=True)
class _CPUTime:
    """The CPU time of the process and of its main thread until now, in ns."""

    process: int
    main: int

    @classmethod
    def now(cls) -> "_CPUTime":
        return cls(time.process_time_ns(), time.thread_time_ns())


def _measured(
    body: str, credentials: list[str], block: int, application: Any, instrumentation: Instrumentation
) -> Profile:
    """Medians over the blocks."""
    profiles: list[Profile] = []
    started: _CPUTime | None = None
    count = -block  # the first block warms up

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count, started
        if scope["type"] == "http":
            # There is one connection, so the previous request is complete.
            if count % block == 0 and count >= 0:
                ended, events = _CPUTime.now(), instrumentation.drain()
                if started:
                    profiles.append(_profile(started, ended, events, block))
                started = _CPUTime.now()
            count += 1
        await application(scope, receive, send)

    _serve(counted, body, credentials, (1 + BLOCKS) * block + 1)
    names = {name for each in profiles for name in each.layers}
    return Profile(
        median(each.total for each in profiles),
        {
            name: Cost(
                median(each.layers.get(name, Cost()).cpu for each in profiles),
                median(each.layers.get(name, Cost()).waited for each in profiles),
                median(each.layers.get(name, Cost()).calls for each in profiles),
            )
            for name in names
        },
    )


def _profile(
    started: _CPUTime, ended: _CPUTime, events: list[tuple[str, int, int, int]], block: int
) -> Profile:
    """Time outside all boundaries: the server's on the main thread, the handler's on other threads."""
    layers = cost_by_layer(events, block)
    on_main = sum(cpu for _, thread, cpu, _ in events if thread == threading.get_ident())
    on_others = sum(cpu for _, thread, cpu, _ in events) - on_main
    main, process = ended.main - started.main, ended.process - started.process
    layers[SERVER] = Cost((main - on_main) / block / 1000, 0, 1)
    layers[HANDLER].cpu += (process - main - on_others) / block / 1000
    return Profile(process / block / 1000, layers)


def _serve(application: Any, body: str, credentials: list[str], requests: int) -> None:
    """Run the application on this thread until the client has its answers."""
    config = uvicorn.Config(application, ws="none", lifespan="off", access_log=False, log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        request = {"port": listener.getsockname()[1], "path": PATH, "body": body}
        client = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measuring.client"], cwd=TOP, stdin=subprocess.PIPE
        )
        machine.pin(client.pid, machine.split(1)[1])

        def run_client() -> None:
            client.communicate(json.dumps(request | {"credentials": credentials, "count": requests}).encode())
            server.should_exit = True

        threading.Thread(target=run_client).start()
        server.run(sockets=[listener])
    if client.returncode:
        raise StartError("The client of the profile failed.")


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def _report(
    title: str,
    environment: Environment,
    whole: Profile,
    bare: float,
    hello: float,
    instrumentation: Instrumentation,
    token: str,
    count: int,
) -> str:
    from benchmarks.measuring import (
        minimum_costs,  # it imports Django, whose settings are now in the environment
    )

    minimum_of: dict[str, tuple[float, str]] = {
        SERVER: (hello, "uvicorn with a minimal application"),
        HANDLER: (minimum_costs.thread_hop(count), "one call from an event loop to a thread"),
        MIDDLEWARE: (minimum_costs.django(count), "Django's `get_response`, no middleware, one URL"),
        VIEW: (minimum_costs.rest_framework(count), "an empty `APIView`"),
        THROTTLE: (minimum_costs.throttle(count), "one get and one set in the cache"),
        TOKEN: (minimum_costs.token(token, count), "one cache lookup"),
        CHATKIT: (minimum_costs.chatkit(count), "`process` with a cached parser and a store in memory"),
        AUDIT: (minimum_costs.log_line(count), "one line of plain text"),
    }
    waits: list[tuple[str, float, float, float]] = []
    for layer in (IDENTITY_STATEMENT, STORE_STATEMENT):
        if not instrumentation.statements[layer][0].lstrip().startswith("SELECT"):
            continue  # a write cannot be repeated with the same keys
        sql, parameters = instrumentation.statements[layer]
        cpu, elapsed = minimum_costs.statement(environment, sql, parameters, count)
        minimum_of[layer] = (cpu, "psycopg alone, prepared")
        inside = minimum_costs.in_postgresql(environment, sql, parameters)
        waits.append((layer, whole.layers[layer].waited, elapsed - cpu, inside))

    rows = [
        ["layer", "CPU µs", "calls", "minimum µs", "how the minimum is measured"],
        ["---", "---:", "---:", "---:", "---"],
    ]
    for layer in [*ORDER, *sorted(whole.layers.keys() - set(ORDER))]:
        if layer in whole.layers:
            each, (minimum, how) = whole.layers[layer], minimum_of.get(layer, (0.0, ""))
            rows.append([layer, f"{each.cpu:.1f}", f"{each.calls:.1f}", f"{minimum:.1f}" if how else "", how])
    minimum = sum(least for least, _ in minimum_of.values())
    rows.append(
        ["**all**", f"**{sum(e.cpu for e in whole.layers.values()):.0f}**", "", f"**{minimum:.0f}**", ""]
    )
    waiting = [
        ["waiting for", "µs", "minimum µs", "execution in PostgreSQL µs"],
        ["---", "---:", "---:", "---:"],
    ]
    waiting += [
        [layer, f"{waited:.0f}", f"{least:.0f}", f"{inside:.0f}"] for layer, waited, least, inside in waits
    ]
    return "\n\n".join(
        [
            title,
            _markdown(rows),
            f"A request takes {bare:.0f} µs of CPU without instrumentation and {whole.total:.0f} µs with it.",
            _markdown(waiting),
        ]
    )


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
