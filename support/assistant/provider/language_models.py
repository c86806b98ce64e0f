"""The Agents SDK's models, extended: they say how an answer ended, and keep thoughts out of it.

The SDK gives us events of the Responses API, whichever API the provider has. But it drops the
``finish_reason`` of Chat Completions. It raises if a model declines or is cut off. And it takes thoughts in
the text for a part of the answer. So the stream of a model is rewritten here, before the SDK's runner and
ChatKit's converter read it.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from typing import Any

from agents import Model, OpenAIChatCompletionsModel, OpenAIResponsesModel
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from support.assistant.provider import input_items
from support.assistant.provider.input_items import Item
from support.assistant.provider.requests import ModelRequests
from support.assistant.provider.response_events import Output
from support.assistant.provider.tool_call_indexes import ToolCallIndexes


class Ending(StrEnum):
    COMPLETE = "complete"
    LENGTH = "length"  # the limit of tokens was reached
    FILTER = "filter"  # the provider's content filter stepped in
    UNKNOWN = "unknown"  # no reason, or one that we do not know
    EMPTY = "empty"  # nothing was said, and no reason was given


# The names of the reasons: in the two APIs, and in other providers' dialects.
REASONS = {
    Ending.COMPLETE: ("stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "eos"),
    Ending.LENGTH: ("length", "max_tokens", "max_output_tokens", "model_length"),
    Ending.FILTER: ("content_filter", "safety"),
}
ENDINGS = {reason: ending for ending, reasons in REASONS.items() for reason in reasons}


class LanguageModel(Model):
    """``ending``: how the latest answer ended. A model is made for one run, so there is one answer at a time.

    ``_fetch_response`` is a private method of the SDK's models, but we need it for two reasons. A request
    that is refused there can be replaced, because nothing has been streamed yet. And only this method sees
    the provider's own chunks. A wrapper around the client does not work: the SDK copies the client to set its
    retries, and the copy has no wrapper.
    """

    ending = Ending.COMPLETE

    def __init__(self, name: str, client: AsyncOpenAI, requests: ModelRequests) -> None:
        super().__init__(name, client)  # type: ignore[call-arg]
        self._requests = requests

    async def _fetch_response(self, system_instructions: Any, input: Any, *args: Any, **options: Any) -> Any:  # noqa: A002
        fetch: Any = super()._fetch_response  # type: ignore[misc]
        if isinstance(input, str):
            return await fetch(system_instructions, input, *args, **options)

        async def send(items: Any) -> Any:
            return await fetch(system_instructions, self._as_sent(items), *args, **options)

        return await self._requests.send(input, send)

    def _as_sent(self, items: list[Item]) -> list[Item]:
        return input_items.plain(items)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[ResponseStreamEvent]:
        output = Output()
        stream: Any = super().stream_response(*args, **kwargs)  # type: ignore[safe-super]
        async with aclosing(stream) as events:
            async for event in events:
                if event.type not in ("response.completed", "response.incomplete"):
                    for rewritten in output.rewrite(event):
                        yield rewritten
                    continue
                self._note_status(event.response)
                is_cut = event.type == "response.incomplete" or self.ending in (Ending.LENGTH, Ending.FILTER)
                for rewritten in output.end(event, is_cut):
                    yield rewritten
                if output.is_empty and self.ending in (Ending.COMPLETE, Ending.UNKNOWN):
                    self.ending = Ending.EMPTY
                if event.type == "response.incomplete":
                    return  # the SDK's own stream would raise next, as if the answer had failed

    def _note_status(self, response: Response) -> None:
        """Set ``ending`` if the response tells it."""


class ResponsesModel(LanguageModel, OpenAIResponsesModel):
    def _note_status(self, response: Response) -> None:
        details = response.incomplete_details
        if response.status == "incomplete" or details:
            self.ending = ENDINGS.get(str(details and details.reason).lower(), Ending.UNKNOWN)
        else:
            self.ending = Ending.COMPLETE


class ChatCompletionsModel(LanguageModel, OpenAIChatCompletionsModel):
    def _as_sent(self, items: list[Item]) -> list[Item]:
        return super()._as_sent(input_items.with_pictures_after_tools(items))

    async def _fetch_response(self, *args: Any, **kwargs: Any) -> Any:
        fetched = await super()._fetch_response(*args, **kwargs)
        self.ending = Ending.UNKNOWN
        if isinstance(fetched, ChatCompletion):
            self._note_reason(fetched)
            return fetched
        response, stream = fetched
        return response, _Chunks(stream, self)

    def _note_reason(self, answer: ChatCompletion | ChatCompletionChunk) -> None:
        for choice in answer.choices or []:  # some providers send null for an empty list
            if choice.index == 0 and choice.finish_reason:
                self.ending = ENDINGS.get(str(choice.finish_reason).lower(), Ending.UNKNOWN)


class _Chunks:
    """A provider's stream, changed so that the SDK can read it.

    Each tool call gets its own index. The reasons ``length`` and ``content_filter`` become ``stop``, after
    the model has noted them: the SDK would raise for one of them, and invent a refusal for the other.
    """

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], model: ChatCompletionsModel) -> None:
        self._stream, self._model, self._tool_call_indexes = stream, model, ToolCallIndexes()
        self.response = stream.response  # the SDK reads the request's id from its headers

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        chunk = await anext(self._stream)
        self._model._note_reason(chunk)
        self._tool_call_indexes.set_indexes(chunk)
        for choice in chunk.choices or []:
            if choice.finish_reason in ("length", "content_filter"):
                choice.finish_reason = "stop"
        return chunk

    async def aclose(self) -> None:
        await self._stream.close()
