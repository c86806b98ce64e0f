"""Prepares the ASGI application of a project for the chat. The project's ``asgi.py`` calls ``wrap``:

application = wrap(get_asgi_application())
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

from django.core.handlers.asgi import get_script_prefix
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.urls import Resolver404, resolve
from django.utils import translation

from authn.conf import conf as authn_conf
from authn.diagnosis.doctor.deployment import reason_of
from authn.jwt import keys
from runtime import graceful_shutdown
from runtime.body_limit import limited
from runtime.postgresql import statement_timeout
from runtime.worker_threads import workers
from support import urls, views
from support.attachments import views as attachment_views
from support.chat import streaming
from support.chat.configured_server import chatkit_server
from support.conf import conf

logger = logging.getLogger(__name__)


def longest_body() -> int:
    """Return the length of the longest body that any of our views accepts, in bytes."""
    return max(views.longest_body(), attachment_views.longest_body())


def is_ours(scope: Any) -> bool:
    """Whether the URL of the request belongs to ``support.urls``, under any prefix of the project."""
    path = scope["path"].removeprefix(get_script_prefix(scope).rstrip("/"))
    language = translation.get_language_from_path(path)  # for URLs in ``i18n_patterns``
    try:
        with translation.override(language or translation.get_language()):
            return urls.app_name in resolve(path).app_names
    except Resolver404:
        return False


def wrap(
    application: Any,
    *,
    limits_body_of: Callable[[Any], bool] = is_ours,
    on_startup: Callable[[], None] = lambda: None,
) -> Any:
    """Return an ASGI application that runs ``application``, a Django handler, for the chat.

    Call it once, when the server imports ``asgi.py``. Raises ``SystemCheckError`` for wrong settings or
    tables: an ASGI server runs no system checks by itself.

    The returned application does three things:

    - It cuts off bodies that are too long for our views.
    - It lets running requests end when the server shuts down.
    - It answers ASGI's lifespan protocol. At the start, it connects to the databases and loads the keys. At
      the shutdown, it stores the partial answers of open streams. docs/compatibility.md says what is
      different with a server that does not have this protocol.

    ``limits_body_of``: whether the limit for bodies applies to the request with this ASGI scope.
    ``on_startup``: called at the start of the server, in a worker thread. If it raises, the server does not
    start. Without the lifespan protocol, it is called at the first request, and an exception is only logged.
    """
    statement_timeout.timeout_seconds = conf.DATABASE_TIMEOUT_SECONDS
    _prepare()
    serving = limited(application, longest_body, limits_body_of)
    has_started = False

    def start() -> None:
        _warm_up()
        on_startup()

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        nonlocal has_started
        if scope["type"] == "lifespan":
            has_started = True
            await _lifespan(receive, send, start)
        elif scope["type"] == "http":
            if not has_started:  # the server has no lifespan protocol
                has_started = True
                await _start_late(start)
            await graceful_shutdown.run_shielded(serving(scope, receive, send), scope)
        else:
            await application(scope, receive, send)  # such as a WebSocket of the project

    return wrapped


def _prepare() -> None:
    """Check the settings and tables. Import what the first request would have to wait for."""
    # The checks import the URLconf, and ``chatkit_server`` imports the agent libraries. The output "no
    # issues" of ``check`` is not JSON and must not reach the log.
    call_command("check", stdout=StringIO())
    chatkit_server()
    # The check of the tables runs in a thread. With several worker processes, uvicorn imports ``asgi.py``
    # inside the event loop, and Django allows no database query there.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_check_tables).result()


def _check_tables() -> None:
    better_auth = connections[authn_conf.BETTER_AUTH_DATABASE]
    options: dict[str, Any] = {"tags": ["database"], "databases": [better_auth.alias]}
    call_command("check", fail_level="WARNING", stdout=StringIO(), **options)
    better_auth.close()


def _warm_up() -> None:
    """Connect to the databases and load the keys before the first request.

    A failure is only logged, because the database may be available again at the first request.
    """
    try:
        for connection in connections.all():
            connection.ensure_connection()
        keys.find("")
    except Exception as exc:
        reason = reason_of(exc) if isinstance(exc, DatabaseError) else exc
        logger.warning("The databases or the keys are not available yet: %s", reason)


async def _start_late(start: Callable[[], None]) -> None:
    try:
        await asyncio.get_running_loop().run_in_executor(workers, start)
    except Exception as exc:
        logger.error("The start failed: %s", exc)


async def _lifespan(receive: Any, send: Any, start: Callable[[], None]) -> None:
    await receive()
    try:
        await asyncio.get_running_loop().run_in_executor(workers, start)
    except Exception as exc:
        await send({"type": "lifespan.startup.failed", "message": str(exc)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    # The server has already waited for the streams. After this shutdown event it ends the process.
    await streaming.cancel_all()
    await graceful_shutdown.wait_for_requests(seconds=1)  # for the last event of each cancelled stream
    await send({"type": "lifespan.shutdown.complete"})
