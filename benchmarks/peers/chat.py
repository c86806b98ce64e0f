"""The ChatKit endpoint of every Python peer."""

import os

import chatkit.server
import pydantic
from chatkit.server import StreamingResult
from chatkit.types import ChatKitReq
from starlette.responses import Response, StreamingResponse

from benchmarks.servers.memory import MemoryStore, Server

if os.environ.get("BENCHMARK_CACHED_PARSER"):
    # The same as support.chat.protocol.cache_request_parser, which the peers cannot import.
    parser = pydantic.TypeAdapter(ChatKitReq)
    chatkit.server.TypeAdapter = {ChatKitReq: lambda kind: parser}

server = Server(MemoryStore())


async def answer(request, user_id):
    """The body of the endpoint, as in ChatKit's documentation."""
    result = await server.process(await request.body(), {"user_id": user_id})
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(content=result.json, media_type="application/json")
