"""ChatKit servers as a team might plug in: for CHATKIT_SERVER and CHATKIT_CONTEXT."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.actions import Action
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.store import NotFoundError, StoreItemType
from chatkit.store import Store as ChatKitStore
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ClientEffectEvent,
    ClientToolCallItem,
    HiddenContextItem,
    Page,
    ProgressUpdateEvent,
    StructuredInputFreeform,
    StructuredInputItem,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    WidgetItem,
)
from chatkit.widgets import DynamicWidgetRoot
from django.db.backends.signals import connection_created

from authn.models import User
from support import local, streaming
from support.context import RequestContext, build
from support.models import Thread
from support.server import SupportServer
from tests.authn.telling import tell


class SlowServer(SupportServer):
    """Does what the message says: ``for N seconds``, ``until I leave``, ``break``, ``count N``, ``title N``.

    A title is given at the end, as by a model that finds one.
    """

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        assert input_user_message
        order = input_user_message.content[0].text.split()
        item = AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            content=[],
        )
        yield ThreadItemAddedEvent(item=item)
        if order[0] == "break":
            raise RuntimeError("the answer broke off")
        if order[0] == "count":  # with Django's async ORM, as a team's server may
            await User.objects.acount()
        text = AssistantMessageContent(text="")
        yield ThreadItemUpdatedEvent(
            item_id=item.id, update=AssistantMessageContentPartAdded(content_index=0, content=text)
        )
        seconds = float(order[1]) if order[1:] and order[1].isdigit() else 60.0
        for _ in range(round(seconds / 0.2)):
            delta = AssistantMessageContentPartTextDelta(content_index=0, delta="word ")
            yield ThreadItemUpdatedEvent(item_id=item.id, update=delta)
            await asyncio.sleep(0.2)
            if order[0] == "count":
                await Thread.objects.acount()
        if order[0] == "title":
            thread.title = "Ring"
        done = AssistantMessageContent(text="word " * round(seconds / 0.2))
        yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [done]}))


class ShopServer(SupportServer):
    """What the default server has no use for: ``show``, ``locate``, ``ask``, ``name`` do one of each."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        def new(kind: StoreItemType) -> dict[str, Any]:
            item_id = self.store.generate_item_id(kind, thread, context)
            return {"id": item_id, "thread_id": thread.id, "created_at": datetime.now()}

        match input_user_message.content[0].text if input_user_message else "":
            case "show":
                yield ThreadItemDoneEvent(item=WidgetItem(**new("message"), widget=seats("14A")))
            case "locate":
                call = ClientToolCallItem(**new("tool_call"), call_id="c", name="locate", arguments={"n": 1})
                yield ThreadItemDoneEvent(item=call)
            case "ask":
                question = StructuredInputFreeform(id="q1", question="How urgent?")
                yield ThreadItemDoneEvent(item=StructuredInputItem(**new("message"), inputs=[question]))
            case "name":
                thread.title = "Ring"
                thread.metadata = {"secret": "of the server"}
                yield ProgressUpdateEvent(text="Naming")
            case said:
                page = await self.store.load_thread_items(thread.id, None, 1, "desc", context)
                text = AssistantMessageContent(text=f"{said or page.data[0].type}!")
                yield ThreadItemDoneEvent(item=AssistantMessageItem(**new("message"), content=[text]))

    async def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        assert sender
        hidden = HiddenContextItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            content="A seat was chosen",
        )
        yield ThreadItemDoneEvent(item=hidden)
        widget = seats(action.payload["seat"])
        yield ThreadItemReplacedEvent(item=sender.model_copy(update={"widget": widget}))
        yield ClientEffectEvent(name="seat", data=action.payload)

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Any
    ) -> SyncCustomActionResponse:
        assert sender
        changed = sender.model_copy(update={"widget": seats(action.payload["seat"])})
        await self.store.save_item(thread.id, changed, context)
        return SyncCustomActionResponse(updated_item=changed)


def seats(chosen: str) -> DynamicWidgetRoot:
    """As of a template: ``aisle`` is nothing the SDK's own classes know."""
    return DynamicWidgetRoot.model_validate(
        {"type": "Card", "aisle": True, "children": [{"type": "Text", "value": chosen}]}
    )


class DraftServer(SupportServer):
    """Adds operations of its own by overriding ``process``, and leaves the rest to the SDK."""

    async def process(
        self, request: str | bytes | bytearray, context: Any
    ) -> StreamingResult | NonStreamingResult:
        asked = json.loads(request)
        match asked["type"]:
            case "drafts.list":
                return NonStreamingResult(json.dumps({"of": context.user_id, "asked": asked}).encode())
            case "drafts.write":
                return StreamingResult(_drafts())
        return await super().process(request, context)


async def _drafts() -> AsyncGenerator[bytes, None]:
    for text in ("Dear", "Sir"):
        yield b"data: " + ProgressUpdateEvent(text=text).model_dump_json().encode() + b"\n\n"


class MemoryStore(ChatKitStore[dict[str, Any]]):
    """As much of a store as one conversation needs."""

    def __init__(self) -> None:
        self.threads: dict[str, list[ThreadMetadata]] = {}

    async def save_thread(self, thread: ThreadMetadata, context: dict[str, Any]) -> None:
        self.threads.setdefault(context["user_id"], []).append(thread)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: dict[str, Any]
    ) -> Page[ThreadMetadata]:
        return Page(data=self.threads.get(context["user_id"], []))

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: dict[str, Any]) -> None: ...

    async def load_thread(self, thread_id: str, context: dict[str, Any]) -> ThreadMetadata:
        raise NotFoundError(thread_id)

    load_thread_items = load_item = load_attachment = load_thread
    save_item = add_thread_item
    save_attachment = delete_attachment = delete_thread = delete_thread_item = add_thread_item


class EchoServer(ChatKitServer[dict[str, Any]]):
    """Written for another framework: a dict for a context, a store in memory, no idea of Django."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: dict[str, Any]
    ) -> AsyncIterator[ThreadStreamEvent]:
        yield ThreadItemDoneEvent(
            item=AssistantMessageItem(
                id="msg_echo",
                thread_id=thread.id,
                created_at=datetime.now(),
                content=[AssistantMessageContent(text=f"{context['greeting']}, {context['user_id']}")],
            )
        )


def make_echo_server() -> EchoServer:
    return EchoServer()


echo_server = EchoServer()


def build_and_tell(request: Any) -> RequestContext:
    tell(request.auth)
    return build(request)


def build_dict(request: Any) -> dict[str, Any]:
    return {"user_id": request.user_id, "greeting": f"Hello {request.user.name}"}


def make_counted_server() -> SupportServer:
    """The default one, in a process that logs its SQL, with every BEGIN and COMMIT."""

    def debug(connection: Any, **_: Any) -> None:
        connection.force_debug_cursor = True

    connection_created.connect(debug, weak=False)
    logging.getLogger("django.db.backends").setLevel(logging.DEBUG)
    return SupportServer()


def make_slow_server() -> SlowServer:
    """A process that sends a keep-alive comment between any two words of a stream."""
    streaming.KEEP_ALIVE_SECONDS = 0.1
    return SlowServer()


def make_prompt_server() -> SupportServer:
    """The default one, whose local responder does not wait between two words."""
    local.PAUSE_SECONDS = 0
    return SupportServer()
