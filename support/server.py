"""The default ChatKit server: a model where one is configured, the local responder where not."""

from collections.abc import AsyncIterator

from chatkit.errors import CustomStreamError
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError
from chatkit.types import ThreadItem, ThreadMetadata, ThreadStreamEvent, UserMessageItem

from support import agent, local
from support.conf import conf
from support.context import RequestContext
from support.store import Store


class SupportServer(ChatKitServer[RequestContext]):
    def __init__(self) -> None:
        super().__init__(Store())

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        # The SDK leaves it to us: a locked thread is a matter of the interface alone there.
        if thread.status.type != "active":
            raise CustomStreamError("This conversation is closed.", allow_retry=False)
        answer = (agent if conf.SUPPORT_MODEL else local).respond(self.store, thread, context)
        async for event in answer:
            yield event

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: RequestContext
    ) -> None:
        # Cancelled while the whole answer was being stored: the part must not overwrite it.
        unsaved = [item for item in pending_items if not await self._is_stored(item, context)]
        await super().handle_stream_cancelled(thread, unsaved, context)

    async def _is_stored(self, item: ThreadItem, context: RequestContext) -> bool:
        try:
            await self.store.load_item(item.thread_id, item.id, context)
        except NotFoundError:
            return False
        return True
