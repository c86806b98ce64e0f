"""The ChatKit server of every Python peer: a store in memory, as in ChatKit's own samples, and our script."""

import os
from collections import defaultdict, deque
from datetime import datetime

import chatkit.server
import pydantic
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.store import NotFoundError, Store
from chatkit.types import ChatKitReq, Page, ThreadMetadata
from starlette.responses import Response, StreamingResponse

from benchmarks import script

if os.environ.get(
    "BENCHMARK_KEPT_PARSER"
):  # what support.protocol.keep_parser does, which peers cannot import
    kept = pydantic.TypeAdapter(ChatKitReq)
    chatkit.server.TypeAdapter = {ChatKitReq: lambda kind: kept}


class MemoryStore(Store):
    """Everybody begins with three threads and keeps their latest ten, however long a run takes."""

    def __init__(self):
        self.threads = defaultdict(_three_threads)

    async def load_thread(self, thread_id, context):
        return self._found(thread_id, context)[0]

    async def save_thread(self, thread, context):
        mine = self.threads[context["user_id"]]
        if all(thread.id != other.id for other, _ in mine):
            mine.append((thread, {}))

    async def load_threads(self, limit, after, order, context):
        mine = [thread for thread, _ in self.threads[context["user_id"]]]
        return Page(data=mine[::-1][:limit] if order == "desc" else mine[:limit])

    async def load_thread_items(self, thread_id, after, limit, order, context):
        items = list(self._found(thread_id, context)[1].values())
        return Page(data=items[::-1][:limit] if order == "desc" else items[:limit])

    async def add_thread_item(self, thread_id, item, context):
        self._found(thread_id, context)[1][item.id] = item

    save_item = add_thread_item

    async def load_item(self, thread_id, item_id, context):
        return self._found(thread_id, context)[1][item_id]

    def _found(self, thread_id, context):
        for thread, items in self.threads[context["user_id"]]:
            if thread.id == thread_id:
                return thread, items
        raise NotFoundError(thread_id)

    async def delete_thread(self, thread_id, context): ...
    async def delete_thread_item(self, thread_id, item_id, context): ...
    async def save_attachment(self, attachment, context): ...
    async def load_attachment(self, attachment_id, context): ...
    async def delete_attachment(self, attachment_id, context): ...


class Server(ChatKitServer):
    async def respond(self, thread, input_user_message, context):
        async for event in script.respond(self.store, thread, input_user_message, context):
            yield event


async def answer(request, user_id):
    """The endpoint's body, as ChatKit's documentation has it."""
    result = await server.process(await request.body(), {"user_id": user_id})
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(content=result.json, media_type="application/json")


def _three_threads():
    now = datetime.now()
    threads = [ThreadMetadata(id=f"thr_{n}", title=f"Conversation {n}", created_at=now) for n in range(3)]
    return deque(((thread, {}) for thread in threads), maxlen=10)


server = Server(MemoryStore())
