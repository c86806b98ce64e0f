"""``chatbackend.asgi:application``: what an ASGI server serves. It boots ready, or not at all."""

import asyncio
import os
from contextlib import suppress
from io import StringIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connections
from servestatic import ServeStaticASGI

from chatbackend.handler import OneHopHandler
from support import streaming
from support.views import chatkit_server

# An ASGI server runs no system checks by itself, and a wrong setting must stop the start, not the
# first user. They also import the URLconf, and the next line the agent stack: the first request
# finds everything loaded.
call_command("check", stdout=StringIO())  # its "no issues" would be a line of the log that is no JSON
chatkit_server()
better_auth = connections[settings.BETTER_AUTH_DATABASE]
call_command(
    "check", tags=["database"], databases=[better_auth.alias], fail_level="WARNING", stdout=StringIO()
)
better_auth.close()
if hasattr(better_auth, "close_pool"):  # its threads would not come along, should the server fork now
    better_auth.close_pool()


# Outside Django: the admin's files pass no middleware, and the API pays one dictionary look-up.
http_application = ServeStaticASGI(OneHopHandler(), allow_all_origins=False)
for finder in get_finders():
    for path, storage in finder.list([]):
        http_application.add_file_to_dictionary(
            f"/{settings.STATIC_URL.lstrip('/')}{path}", storage.path(path)
        )


async def application(scope: Any, receive: Any, send: Any) -> None:
    """ASGI 3. With the server's lifespan on (uvicorn's default), a shutdown keeps what was said."""
    if scope["type"] != "lifespan":
        await _unhurried(asyncio.create_task(http_application(scope, receive, send)))
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    # The server has waited for the streams as long as it was told to. It kills the process after this.
    await streaming.end_all()
    if _under_way:  # the streams have ended, and their clients are about to hear it
        await asyncio.wait(_under_way, timeout=1)
    await send({"type": "lifespan.shutdown.complete"})


_under_way: set["asyncio.Task[None]"] = set()


async def _unhurried(request: "asyncio.Task[None]") -> None:
    """Wait for the request, also when cancelled: only a server that shuts down does that, and it ends the
    streams a moment later. Cancelled itself, Django would leave two tasks of its own behind, and the
    client would hear the connection break.
    """
    _under_way.add(request)
    request.add_done_callback(_under_way.discard)
    while not request.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([request])
    await request
