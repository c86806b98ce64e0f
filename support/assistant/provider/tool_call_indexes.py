"""Gives each tool call in a Chat Completions stream its own index.

Some providers give index 0 to every call of an answer. The Agents SDK joins the arguments of all calls with
one index, so it would mix up these calls.
"""

import json
import uuid
from dataclasses import dataclass

from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall


@dataclass
class Call:
    index: int
    call_id: str
    arguments: str = ""


class ToolCallIndexes:
    """Gives out the indexes for one stream."""

    def __init__(self) -> None:
        self._newest_calls: dict[int, Call] = {}  # by the provider's index
        self._count = 0

    def rewrite(self, chunk: ChatCompletionChunk) -> None:
        """Change the indexes in the chunk. Call this method with each chunk, in order."""
        for choice in chunk.choices or ():
            for part in (choice.delta and choice.delta.tool_calls) or ():
                self.rewrite_part(part)

    def rewrite_part(self, part: ChoiceDeltaToolCall) -> None:
        call = self._newest_calls.get(part.index)
        if call is None or _is_new_call(part, call):
            part.id = part.id or f"call_{uuid.uuid4().hex}"
            call = self._newest_calls[part.index] = Call(self._count, part.id)
            self._count += 1
        call.arguments += (part.function and part.function.arguments) or ""
        part.index = call.index


def _is_new_call(part: ChoiceDeltaToolCall, previous: Call) -> bool:
    """Whether the part begins a new call and does not continue the previous call.

    The first part of each call has the tool's name. Some providers repeat the name in every part, and some
    give no ids. A part with a name and without an id begins a new call if the previous arguments are
    complete.
    """
    if not (part.function and part.function.name):
        return False
    return part.id != previous.call_id if part.id else _is_json(previous.arguments)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
