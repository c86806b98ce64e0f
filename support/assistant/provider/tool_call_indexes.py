"""Parallel tool calls of a Chat Completions stream, told apart."""

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
    """Gives each call of a stream an index of its own.

    Some providers give index 0 to every call, and the Agents SDK would join their arguments.
    """

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}  # by the provider's index: the newest call of each
        self._count = 0

    def set_indexes(self, chunk: ChatCompletionChunk) -> None:
        """Change the indexes in place. Call it with the chunks in order."""
        for choice in chunk.choices or ():
            for part in (choice.delta and choice.delta.tool_calls) or ():
                self.set_index(part)

    def set_index(self, part: ChoiceDeltaToolCall) -> None:
        call = self._calls.get(part.index)
        if call is None or _is_new_call(part, call):
            part.id = part.id or f"call_{uuid.uuid4().hex}"
            call = self._calls[part.index] = Call(self._count, part.id)
            self._count += 1
        call.arguments += (part.function and part.function.arguments) or ""
        part.index = call.index


def _is_new_call(part: ChoiceDeltaToolCall, call: Call) -> bool:
    """Only the first part of a call has a name. A provider that gives no ids may repeat it in each part."""
    if not (part.function and part.function.name):
        return False
    return part.id != call.call_id if part.id else _is_json(call.arguments)


def _is_json(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True
