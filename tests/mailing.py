"""The project's settings with errors mailed to ADMINS, as a team may have it; and what breaks, on demand."""

import os
from collections.abc import AsyncIterator
from typing import Any

from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

from chatbackend.settings import *  # noqa: F403
from chatbackend.settings import LOGGING

ADMINS = [("Ada", "ada@example.com")]
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ.get("MAILS", "")
LOGGING["handlers"]["mail"] = {
    "class": "django.utils.log.AdminEmailHandler",
    "include_html": True,
    "level": "ERROR",
}
LOGGING["root"]["handlers"] = ["stdout", "mail"]


def make_server() -> Any:
    from support.connections import on_database
    from support.server import SupportServer

    @on_database
    def break_in_a_worker(text: str) -> None:
        raise RuntimeError("broken in a worker")

    class BreakingServer(SupportServer):
        async def respond(
            self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
        ) -> AsyncIterator[ThreadStreamEvent]:
            assert input_user_message
            text = input_user_message.content[0].text
            if "worker" in text:
                await break_in_a_worker(text)
            raise RuntimeError("broken in a stream")
            yield

    return BreakingServer()


def build(request: Any) -> Any:
    from support.context import build

    token, text = request.META["HTTP_AUTHORIZATION"], request.body.decode()
    if "view" in text:
        raise RuntimeError("broken in a view")
    del token, text
    return build(request)
