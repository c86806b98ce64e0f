"""``chatbackend.asgi:application``: what an ASGI server serves. It boots ready, or not at all."""

import asyncio
import os
from contextlib import suppress
from io import SEEK_END, StringIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")

import django

django.setup(set_prefix=False)

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.handlers.asgi import ASGIHandler
from django.core.management import call_command
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from servestatic import ServeStaticASGI

from authn.responses import error_body
from support import streaming
from support.attachment_views import FORM_BYTES
from support.views import chatkit_server

# An ASGI server runs no system checks by itself, and a wrong setting must stop the start, not the
# first user. They also import the URLconf, and the next line the agent stack: the first request
# finds everything loaded.
call_command("check", stdout=StringIO())  # its "no issues" would be a line of the log that is no JSON
chatkit_server()


class OneHopHandler(ASGIHandler):
    """Django's handler, with the middleware and the view run as one piece of sync code, as under WSGI.

    All of ours is sync, and Django's own would change threads for each middleware's hook. A body is
    stored before anybody is asked for a token, so here its length has a limit.
    """

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        limit = max(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.ATTACHMENT_MAX_BYTES + FORM_BYTES)
        length = 0

        async def receive_within_limit() -> Any:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            # To Django the client has left, and so it throws away what it has stored.
            return message if length <= limit else {"type": "http.disconnect"}

        await super().handle(scope, receive_within_limit, send)
        if length > limit:
            refusal = JsonResponse(error_body(f"The request body exceeds {limit} bytes", 413), status=413)
            refusal.headers["Content-Length"] = str(len(refusal.content))
            await self.send_response(refusal, send)

    def create_request(self, scope: Any, body_file: Any) -> Any:
        request, response = super().create_request(scope, body_file)
        if request is not None:
            # What it is and not what was said, or a chunked body would pass all of Django's limits.
            request.META["CONTENT_LENGTH"] = str(body_file.seek(0, SEEK_END))
            body_file.seek(0)
        return request, response

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


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
