"""``chatbackend.asgi:application``, for an ASGI server. An import with wrong settings or tables raises."""

import asyncio
import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connections
from django.utils.module_loading import import_string
from servestatic import ServeStaticASGI

from authn.jwt import keys
from chatbackend.metrics import exposition
from chatbackend.web.body_limit import limited
from chatbackend.web.probes import answering_probes
from runtime import graceful_shutdown
from runtime.postgresql import statement_timeout
from runtime.worker_threads import workers
from support.chat import streaming
from support.chat.configured_server import chatkit_server

logger = logging.getLogger(__name__)

# Python's default thresholds (700, 10, 10) start a full garbage collection every few seconds under load. With
# a thousand open streams, a full collection takes a tenth of a second. The process answers no request
# meanwhile.
GC_THRESHOLD = (10_000, 5, 20)

statement_timeout.timeout_seconds = settings.DATABASE_TIMEOUT_SECONDS

# An ASGI server runs no system checks by itself. A wrong setting must stop the start and not fail the first
# request. The checks import the URLconf, and ``chatkit_server`` imports the agent libraries. So the first
# request does not wait for these imports. The output "no issues" of ``check`` is not JSON and must not reach
# the log.
call_command("check", stdout=StringIO())
chatkit_server()


def _check_database() -> None:
    better_auth = connections[settings.BETTER_AUTH_DATABASE]
    call_command(
        "check", tags=["database"], databases=[better_auth.alias], fail_level="WARNING", stdout=StringIO()
    )
    better_auth.close()


# The check runs in a thread. With several worker processes, uvicorn imports this module inside the event
# loop, and Django allows no database query there.
with ThreadPoolExecutor(1) as thread:
    thread.submit(_check_database).result()


# Static files need no middleware, so they are served outside Django. This costs each API request one
# dictionary look-up.
handler = graceful_shutdown.shielded(import_string(settings.ASGI_HANDLER)())
http_application = ServeStaticASGI(
    limited(handler),
    allow_all_origins=False,
    add_headers_function=lambda headers, path, url: headers.add_header("X-Content-Type-Options", "nosniff"),
)
for finder in get_finders():
    for path, storage in finder.list([]):
        http_application.add_file_to_dictionary(
            f"/{settings.STATIC_URL.lstrip('/')}{path}", storage.path(path)
        )
serving = answering_probes(http_application)


def warm_up() -> None:
    """Connect to the databases and load the keys before the first request.

    A failure is only logged, because the database may be available again at the first request.
    """
    try:
        for connection in connections.all():
            connection.ensure_connection()
        keys.find("")
    except Exception as exc:
        logger.warning("The databases or the keys are not available yet: %s", exc)
    gc.collect()
    gc.freeze()  # objects from the start are never deleted, so the collector can skip them
    gc.set_threshold(*GC_THRESHOLD)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI 3 application. It needs the lifespan protocol (uvicorn's default) to store partial answers at a
    shutdown."""
    if scope["type"] != "lifespan":
        await serving(scope, receive, send)
        return
    await receive()
    await asyncio.get_running_loop().run_in_executor(workers, warm_up)
    try:
        exposition.start()
    except OSError as exc:
        await send({"type": "lifespan.startup.failed", "message": f"METRICS_PORT: {exc}"})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    # The server has already waited for the streams. After this shutdown event it ends the process.
    await streaming.cancel_all()
    await graceful_shutdown.wait_for_requests(seconds=1)  # for the last event of each cancelled stream
    await send({"type": "lifespan.shutdown.complete"})
