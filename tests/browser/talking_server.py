"""A ChatKit server for somebody who looks on: it can be slow, break off, or say what a picture is to show."""

from collections.abc import AsyncIterator
from datetime import datetime

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from support import local
from support.context import RequestContext
from tests.support.servers import SlowServer

SLOWLY = "for "  # so many seconds: SlowServer's
BREAK_ONCE = "break once"

TITLE = "Parcel due on Friday"
ANSWERS = {
    "My parcel was due on Friday. Where is it?": """\
Hello Ada! Order 4711 left our warehouse in Zürich on Thursday evening.

The carrier scanned it this morning at 06:12 and means to deliver it today, between 14:00 and 16:00.

https://carrier.example.com/track/00340434161094015902000000004711""",
    "Nobody is home then. Can it wait at the door?": """\
Of course. This is what the driver will read:

    leave_at: "front door"
    ring: false

Thank you for the picture: it goes along.""",
}


class TalkingServer(SlowServer):
    def __init__(self) -> None:
        super().__init__()
        local.PAUSE_SECONDS = 0  # who wants to see words come one by one asks SlowServer
        self.broken: set[str] = set()  # ids of threads

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        said = input_user_message.content[0].text if input_user_message and input_user_message.content else ""
        if said in ANSWERS:
            thread.title = TITLE
            yield self._whole(ANSWERS[said], thread, context)
            return
        server = super() if said.startswith(SLOWLY) else super(SlowServer, self)
        events = 0
        async for event in server.respond(thread, input_user_message, context):
            events += 1
            if said == BREAK_ONCE and events == 9 and thread.id not in self.broken:
                self.broken.add(thread.id)
                raise RuntimeError("the answer broke off")
            yield event

    def _whole(self, text: str, thread: ThreadMetadata, context: RequestContext) -> ThreadItemDoneEvent:
        item_id = self.store.generate_item_id("message", thread, context)
        content = [AssistantMessageContent(text=text)]
        return ThreadItemDoneEvent(
            item=AssistantMessageItem(
                id=item_id, thread_id=thread.id, created_at=datetime.now(), content=content
            )
        )
