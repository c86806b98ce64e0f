"""A ChatKit server for a test that looks on: it is slow, breaks off, thinks, or says what a picture needs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    DurationSummary,
    ThoughtTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
)

from support import local
from support.context import RequestContext
from tests.support.servers import SlowServer

SLOWLY = "for "  # so many seconds: SlowServer's
BREAK_ONCE = "break once"
THINK = "think"  # says its thoughts first, and takes them back
THINK_ON = "think on"  # the same, and comes to no end
THOUGHTS = "She greets me."

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
        if said in (THINK, THINK_ON):
            workflow = self._workflow(thread, context)
            for event in self._thinking(workflow, thread, context):
                yield event
            await asyncio.sleep(60 if said == THINK_ON else 0)
            workflow.workflow.summary = DurationSummary(duration=3)
            yield ThreadItemDoneEvent(item=workflow)
            yield self._whole("Hello!", thread, context)
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

    def _workflow(self, thread: ThreadMetadata, context: RequestContext) -> WorkflowItem:
        return WorkflowItem(
            id=self.store.generate_item_id("workflow", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            workflow=Workflow(type="reasoning", tasks=[]),
        )

    def _thinking(
        self, workflow: WorkflowItem, thread: ThreadMetadata, context: RequestContext
    ) -> Iterator[ThreadStreamEvent]:
        """As support/model_output.py does with a model that leaves out the opening tag."""
        thought = ThoughtTask(content=THOUGHTS)
        spoken = self._whole(THOUGHTS, thread, context).item
        yield ThreadItemAddedEvent(item=spoken)
        yield ThreadItemRemovedEvent(item_id=spoken.id)
        yield ThreadItemAddedEvent(item=workflow.model_copy(deep=True))
        workflow.workflow.tasks.append(thought)
        yield ThreadItemUpdatedEvent(
            item_id=workflow.id, update=WorkflowTaskAdded(task_index=0, task=thought)
        )
