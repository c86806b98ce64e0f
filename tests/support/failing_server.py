"""A team's server, with stores of its own. A header of the request says what it raises, and where."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
import openai
from chatkit.actions import Action
from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    Attachment,
    AudioInput,
    FeedbackKind,
    StreamOptions,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
)
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.files.storage import InMemoryStorage
from django.http import Http404
from rest_framework import exceptions
from starlette.exceptions import HTTPException

from support.attachments import AttachmentStore
from support.store import Store


class CallFailed(HTTPException):
    """An error of a client for another service."""

    response = httpx2.Response(403)


UPSTREAM = httpx2.Response(403, request=httpx2.Request("GET", "https://orders.example.com"))

RAISED: dict[str, Callable[[], Exception]] = {
    "ValueError": lambda: ValueError("of the team"),
    "NotImplementedError": lambda: NotImplementedError("of the team"),
    "NotFoundError": lambda: NotFoundError("of the team"),
    "http": lambda: HTTPException(402, "The plan of your company ends here"),
    "http headers": lambda: HTTPException(
        429,
        "Slowly",
        {"retry-after": "30", "WWW-Authenticate": 'Bearer realm="shop"', "Set-Cookie": "a=b"},
    ),
    "http odd headers": lambda: HTTPException(
        401, "Who is it?", {"Retry-After": "soon", "WWW-Authenticate": "Bearer\r\nSet-Cookie: a=b"}
    ),
    "http object": lambda: HTTPException(409, {"code": 7, "message": "Sold"}),  # type: ignore[arg-type]
    "http list": lambda: HTTPException(422, [{"loc": ["seat"]}]),  # type: ignore[arg-type]
    "http no phrase": lambda: HTTPException(499, ""),
    "http 503": lambda: HTTPException(503, "The airline is down", {"Retry-After": "40"}),
    "drf": lambda: exceptions.PermissionDenied("Not on this plan"),
    "drf fields": lambda: exceptions.ValidationError({"seat": ["unknown"]}),
    "drf throttled": lambda: exceptions.Throttled(7),
    "drf unauthenticated": lambda: exceptions.NotAuthenticated("Sign in at the airline"),
    "Http404": lambda: Http404("No such seat"),
    "Http404 bare": Http404,
    "PermissionDenied": lambda: PermissionDenied("Not your seat"),
    "BadRequest": lambda: BadRequest("of the team"),
    "SuspiciousOperation": lambda: SuspiciousOperation("of the team"),
    "httpx": lambda: httpx2.HTTPStatusError("of the team", request=UPSTREAM.request, response=UPSTREAM),
    "openai": lambda: openai.PermissionDeniedError("of the team", response=UPSTREAM, body=None),
    "client": lambda: CallFailed(403, "of the team"),
    "StreamError": lambda: StreamError(ErrorCode.STREAM_ERROR),
    "CustomStreamError": lambda: CustomStreamError("Sorry", allow_retry=True),
}


@dataclass
class Context:
    user_id: str
    place: str
    error: str

    def fail(self, place: str) -> None:
        if place == self.place:
            raise RAISED[self.error]()


def build(request: Any) -> Context:
    place, _, error = request.headers.get("X-Fails", "").partition(": ")
    context = Context(request.user_id, place, error)
    context.fail("context")
    return context


def traced(call: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator such as teams write: its frame does not show the store."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return wrapper


class FailingStore(Store[Context]):
    async def load_thread(self, thread_id: str, context: Context) -> ThreadMetadata:
        context.fail("load_thread")
        return await super().load_thread(thread_id, context)

    @traced
    async def load_item(self, thread_id: str, item_id: str, context: Context) -> ThreadItem:
        context.fail("load_item")
        return await super().load_item(thread_id, item_id, context)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Context) -> None:
        context.fail(f"add {item.type}")
        await super().add_thread_item(thread_id, item, context)


class FailingFiles(AttachmentStore[Context]):
    async def create_attachment(self, input: Any, context: Context) -> Attachment:  # noqa: A002
        context.fail("create_attachment")
        return await super().create_attachment(input, context)


class FailingServer(ChatKitServer[Context]):
    def __init__(self) -> None:
        super().__init__(FailingStore(), FailingFiles())

    async def process(
        self, request: str | bytes | bytearray, context: Context
    ) -> StreamingResult | NonStreamingResult:
        context.fail("process")
        return await super().process(request, context)

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Context
    ) -> AsyncIterator[ThreadStreamEvent]:
        context.fail("respond")
        if context.place == "respond, asking the store":
            await self.store.load_item(thread.id, "msg_never_was", context)
        item = AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            content=[AssistantMessageContent(text="Hello")],
        )
        yield ThreadItemDoneEvent(item=item)

    def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Context
    ) -> AsyncIterator[ThreadStreamEvent]:
        context.fail("action")
        return self.respond(thread, None, context)

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Context
    ) -> SyncCustomActionResponse:
        context.fail("sync_action")
        return SyncCustomActionResponse()

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Context
    ) -> None:
        context.fail("add_feedback")
        await self.store.load_thread(thread_id, context)

    async def transcribe(self, audio_input: AudioInput, context: Context) -> TranscriptionResult:
        context.fail("transcribe")
        return TranscriptionResult(text="Hello")

    def get_stream_options(self, thread: ThreadMetadata, context: Context) -> StreamOptions:
        context.fail("get_stream_options")
        return super().get_stream_options(thread, context)


class FailingStorage(InMemoryStorage):
    """Refuses to store a file that begins with "No room", and refuses all downloads."""

    def _save(self, name: str, content: Any) -> str:
        if content.read().startswith(b"No room"):
            raise HTTPException(507, "The bucket is full")
        return name

    def open(self, name: str, mode: str = "rb") -> Any:
        raise HTTPException(451, "Not in this country")
