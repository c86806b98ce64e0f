"""Ours, for CHATKIT_SERVER: the default server's store, and the answer that all of them give."""

from collections.abc import AsyncIterator

from chatkit.server import ChatKitServer
from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

from benchmarks import script
from support.context import RequestContext
from support.store import Store


class Server(ChatKitServer[RequestContext]):
    def __init__(self) -> None:
        super().__init__(Store())

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        async for event in script.respond(self.store, thread, input_user_message, context):
            yield event
