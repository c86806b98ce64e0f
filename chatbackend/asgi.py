"""``chatbackend.asgi:application``: what an ASGI server serves. It boots ready, or not at all."""

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
from chatbackend.web.health import answering_probes
from runtime import graceful_shutdown
from runtime.postgresql import statement_timeout
from runtime.worker_threads import workers
from support.chat import streaming
from support.views import chatkit_server

logger = logging.getLogger(__name__)

# Python's own (700, 10, 10) looks through all that is alive every few seconds of a busy minute: with a
# thousand streams open, that is a tenth of a second in which nobody is answered.
GC_THRESHOLD = (10_000, 5, 20)

statement_timeout.timeout_seconds = settings.DATABASE_TIMEOUT_SECONDS

# An ASGI server runs no system checks by itself, and a wrong setting must stop the start, not the
# first user. They also import the URLconf, and the next line the agent stack: the first request
# finds everything loaded.
call_command("check", stdout=StringIO())  # its "no issues" would be a line of the log that is no JSON
chatkit_server()


def _check_database() -> None:
    better_auth = connections[settings.BETTER_AUTH_DATABASE]
    call_command(
        "check", tags=["database"], databases=[better_auth.alias], fail_level="WARNING", stdout=StringIO()
    )
    better_auth.close()


# In a thread: of several workers uvicorn imports this in the event loop, where Django asks no database.
with ThreadPoolExecutor(1) as aside:
    aside.submit(_check_database).result()


# Outside Django: the admin's files pass no middleware, and the API pays one dictionary look-up.
handler = graceful_shutdown.all_unhurried(import_string(settings.ASGI_HANDLER)())
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
    """Connect, and read the keys, before anybody asks. What is down now may be up again when they do."""
    try:
        for connection in connections.all():
            connection.ensure_connection()
        keys.find("")
    except Exception as exc:
        logger.warning("Not everything is there yet: %s", exc)
    gc.collect()
    gc.freeze()  # what is there by now stays, and needs no looking through
    gc.set_threshold(*GC_THRESHOLD)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """ASGI 3. With the server's lifespan on (uvicorn's default), a shutdown keeps what was said."""
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
    # The server has waited for the streams as long as it was told to. It kills the process after this.
    await streaming.end_all()
    await graceful_shutdown.finish(
        seconds=1
    )  # the streams have ended, and their clients are about to hear it
    await send({"type": "lifespan.shutdown.complete"})
