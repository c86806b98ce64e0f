"""One ``threads.list`` request, layer by layer, beside the floor of each layer.

Our own application runs here, on uvicorn, under production's settings; a process on another core sends it
requests, one after another.
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
from statistics import median
from typing import Any

import uvicorn

from benchmarks.data import reset_chats
from benchmarks.environment import FOLDER, LIST, PATH, Environment
from benchmarks.measuring import machine
from benchmarks.measuring.instrumentation import Instruments, Seam, Spent, spent
from benchmarks.targets import OURS
from chatbackend.dev.processes import TOP, StartError

BLOCKS = 5

SERVER, HANDLER = "server and event loop", "handler and its hops"
MIDDLEWARE, VIEW, THROTTLE = "middleware, URLs", "DRF, view", "throttle"
IDENTITY, CONNECTION, AUDIT = "identity", "connections", "audit log"
TOKEN, PARSING = "token, verified a moment ago", "our own check of the body"
CHATKIT, STORE = "ChatKit", "store"

SEAMS = [
    Seam("django.core.handlers.base.BaseHandler.get_response", MIDDLEWARE),
    Seam("support.views.ChatKitView.dispatch", VIEW),
    Seam("rest_framework.throttling.SimpleRateThrottle.allow_request", THROTTLE),
    Seam("authn.jwt.tokens.verify", TOKEN),
    Seam("authn.sessions.resolve", IDENTITY),
    Seam("authn.audit.Attempt.accepted", AUDIT),
    Seam("support.chat.protocol.parse", PARSING),
    Seam("chatkit.server.ChatKitServer.process", CHATKIT),
    Seam("support.storage.store.load_threads", STORE),
    Seam("psycopg.Cursor.execute", "statement"),
    Seam("django.db.backends.base.base.BaseDatabaseWrapper.ensure_connection", CONNECTION, is_optional=True),
    Seam(
        "django.db.backends.base.base.BaseDatabaseWrapper.close_if_unusable_or_obsolete",
        CONNECTION,
        is_optional=True,
    ),
]
HANDED = {"": HANDLER, STORE: STORE}
OF_STORE = f"statement of {STORE}"
OF_IDENTITY = f"statement of {IDENTITY}"
ORDER = [
    *[SERVER, HANDLER, MIDDLEWARE, VIEW, THROTTLE, TOKEN, IDENTITY, OF_IDENTITY, CONNECTION],
    *[AUDIT, PARSING, CHATKIT, STORE, OF_STORE],
]


def profile(environment: Environment, requests: int) -> str:
    """Markdown. ``requests``: how many, over all blocks."""
    reset_chats(environment.database_url, environment.issuer.population)
    machine.pin(os.getpid(), environment.pinned(OURS))
    known = {"DATABASE_URL": environment.database_url, "BETTER_AUTH_URL": environment.issuer.origin}
    os.environ |= OURS.env | known | {"DJANGO_SETTINGS_MODULE": "chatbackend.settings"}
    with (FOLDER / "profile.log").open("w") as log, redirect_stdout(log):  # where the audit log goes
        from chatbackend.asgi import application

        credentials = environment.issuer.credentials("eddsa").good
        block = max(1, requests // BLOCKS)
        bare = _measured(application, credentials, block, Instruments(HANDED))
        hello = _measured(_hello, credentials, block, Instruments(HANDED))
        instruments = Instruments(HANDED)
        instruments.install(SEAMS)
        whole = _measured(instruments.application(HANDLER, application), credentials, block, instruments)
        instruments.check()
    return _report(
        environment, whole, bare.total, hello.total, instruments, credentials[0].rpartition(" ")[2], block
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """µs of CPU per request: ``total`` of the process, ``layers`` of what was wrapped and what is left."""

    total: float
    layers: dict[str, Spent]


@dataclass(slots=True)
class _Block:
    """What the process and its main thread have spent, at a moment."""

    process: int
    main: int

    @classmethod
    def now(cls) -> "_Block":
        return cls(time.process_time_ns(), time.thread_time_ns())


def _measured(application: Any, credentials: list[str], block: int, instruments: Instruments) -> Profile:
    """Medians over the blocks."""
    profiles: list[Profile] = []
    begun: _Block | None = None
    count = -block  # to warm up

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count, begun
        if scope["type"] == "http":
            # The one before is done, to its last step: there is one connection.
            if count % block == 0 and count >= 0:
                ended, events = _Block.now(), instruments.drain()
                if begun:
                    profiles.append(_profile(begun, ended, events, block))
                begun = _Block.now()
            count += 1
        await application(scope, receive, send)

    _serve(counted, credentials, (1 + BLOCKS) * block + 1)
    names = {name for each in profiles for name in each.layers}
    return Profile(
        median(each.total for each in profiles),
        {
            name: Spent(
                median(each.layers.get(name, Spent()).cpu for each in profiles),
                median(each.layers.get(name, Spent()).waited for each in profiles),
                median(each.layers.get(name, Spent()).calls for each in profiles),
            )
            for name in names
        },
    )


def _profile(begun: _Block, ended: _Block, events: list[tuple[str, int, int, int]], block: int) -> Profile:
    """What no seam has is the server's on the main thread, and on others a part of handing things over."""
    layers = spent(events, block)
    on_main = sum(cpu for _, thread, cpu, _ in events if thread == threading.get_ident())
    on_others = sum(cpu for _, thread, cpu, _ in events) - on_main
    main, process = ended.main - begun.main, ended.process - begun.process
    layers[SERVER] = Spent((main - on_main) / block / 1000, 0, 1)
    layers[HANDLER].cpu += (process - main - on_others) / block / 1000
    return Profile(process / block / 1000, layers)


def _serve(application: Any, credentials: list[str], requests: int) -> None:
    """On this thread, until its client has had so many answers."""
    config = uvicorn.Config(application, ws="none", lifespan="off", access_log=False, log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = {"port": listener.getsockname()[1], "path": PATH, "body": LIST}
        client = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measuring.client"], cwd=TOP, stdin=subprocess.PIPE
        )
        machine.pin(client.pid, machine.split(1)[1])

        def talk() -> None:
            client.communicate(json.dumps(asked | {"credentials": credentials, "count": requests}).encode())
            server.should_exit = True

        threading.Thread(target=talk).start()
        server.run(sockets=[listener])
    if client.returncode:
        raise StartError("The client of the profile failed.")


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def _report(
    environment: Environment,
    whole: Profile,
    bare: float,
    hello: float,
    instruments: Instruments,
    token: str,
    count: int,
) -> str:
    from benchmarks.measuring import minimum_costs  # brings Django, which has its settings by now

    floor_of: dict[str, tuple[float, str]] = {
        SERVER: (hello, "uvicorn and an application that says hello"),
        HANDLER: (minimum_costs.thread_hop(count), "one hop of an event loop to a thread"),
        MIDDLEWARE: (minimum_costs.django(count), "Django's `get_response`, no middleware, one URL"),
        VIEW: (minimum_costs.rest_framework(count), "an `APIView` that does nothing"),
        THROTTLE: (minimum_costs.throttle(count), "a get and a set of the cache"),
        TOKEN: (minimum_costs.token(token, count), "a look at what is remembered"),
        CHATKIT: (minimum_costs.chatkit(count), "`process` with a kept parser, a store in memory"),
        AUDIT: (minimum_costs.log_line(count), "one line of text"),
    }
    waits: list[tuple[str, float, float, float]] = []
    for layer in (OF_IDENTITY, OF_STORE):
        sql, parameters = instruments.statements[layer]
        cpu, elapsed = minimum_costs.statement(environment, sql, parameters, count)
        floor_of[layer] = (cpu, "psycopg's own, prepared")
        inside = minimum_costs.in_postgresql(environment, sql, parameters)
        waits.append((layer, whole.layers[layer].waited, elapsed - cpu, inside))

    rows = [["layer", "CPU µs", "calls", "floor µs", "which is"], ["---", "---:", "---:", "---:", "---"]]
    for layer in [*ORDER, *sorted(whole.layers.keys() - set(ORDER))]:
        if layer in whole.layers:
            each, (floor, which) = whole.layers[layer], floor_of.get(layer, (0.0, ""))
            rows.append(
                [layer, f"{each.cpu:.1f}", f"{each.calls:.1f}", f"{floor:.1f}" if which else "", which]
            )
    floor = sum(least for least, _ in floor_of.values())
    rows.append(
        ["**all**", f"**{sum(e.cpu for e in whole.layers.values()):.0f}**", "", f"**{floor:.0f}**", ""]
    )
    waiting = [
        ["waiting for", "µs", "at least µs", "PostgreSQL executes µs"],
        ["---", "---:", "---:", "---:"],
    ]
    waiting += [
        [layer, f"{waited:.0f}", f"{least:.0f}", f"{inside:.0f}"] for layer, waited, least, inside in waits
    ]
    return "\n\n".join(
        [
            f"One `threads.list` request: medians of {BLOCKS} blocks of {count} requests, one after another.",
            _markdown(rows),
            f"Without instruments a request takes {bare:.0f} µs of CPU, with them {whole.total:.0f}.",
            _markdown(waiting),
        ]
    )


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
