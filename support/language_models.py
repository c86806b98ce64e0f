"""The Agents SDK's models, made to say how an answer ended and to keep thoughts out of it.

The SDK speaks the Responses API to us, whichever API the provider has. Three things get lost on the way:
it drops the ``finish_reason`` of Chat Completions, it raises where a model declines or is cut off, and it
takes thoughts that stand in the text for the answer. So the stream of a model is rewritten here, before
the SDK's runner and ChatKit's converter read it.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from typing import Any

from agents import Model, OpenAIChatCompletionsModel, OpenAIResponsesModel
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from support import plain_input
from support.model_output import Output
from support.model_requests import ModelRequests
from support.plain_input import Item
from support.tool_call_numbers import Numbers


class Ending(StrEnum):
    COMPLETE = "complete"
    LENGTH = "length"  # no more tokens were allowed
    FILTER = "filter"  # the provider's content filter stepped in
    UNKNOWN = "unknown"  # no reason, or one that we do not know
    EMPTY = "empty"  # for no reason that is told


# As they are written by the two APIs, and by providers whose models have words of their own.
REASONS = {
    Ending.COMPLETE: ("stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "eos"),
    Ending.LENGTH: ("length", "max_tokens", "max_output_tokens", "model_length"),
    Ending.FILTER: ("content_filter", "safety"),
}
ENDINGS = {reason: ending for ending, reasons in REASONS.items() for reason in reasons}


class LanguageModel(Model):
    """``ending``: of the latest answer. A model is made for one run, so there is one answer at a time.

    ``_fetch_response`` is a private method of the SDK's models, but the only place that serves both ends. A
    request that is refused there can be replaced, since nothing has been streamed yet. And it alone sees the
    provider's own chunks: a wrapper around the client is lost where the SDK copies the client to set its
    retries.
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
        return plain_input.plain(items)

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
        """Set ``ending`` where the response says it."""


class ResponsesModel(LanguageModel, OpenAIResponsesModel):
    def _note_status(self, response: Response) -> None:
        details = response.incomplete_details
        if response.status == "incomplete" or details:
            self.ending = ENDINGS.get(str(details and details.reason).lower(), Ending.UNKNOWN)
        else:
            self.ending = Ending.COMPLETE


class ChatCompletionsModel(LanguageModel, OpenAIChatCompletionsModel):
    def _as_sent(self, items: list[Item]) -> list[Item]:
        return super()._as_sent(plain_input.with_pictures_after_tools(items))

    async def _fetch_response(self, *args: Any, **kwargs: Any) -> Any:
        fetched = await super()._fetch_response(*args, **kwargs)
        self.ending = Ending.UNKNOWN
        if isinstance(fetched, ChatCompletion):
            self._note_reason(fetched)
            return fetched
        response, stream = fetched
        return response, _Chunks(stream, self)

    def _note_reason(self, answer: ChatCompletion | ChatCompletionChunk) -> None:
        for choice in answer.choices or []:  # some providers have null for none
            if choice.index == 0 and choice.finish_reason:
                self.ending = ENDINGS.get(str(choice.finish_reason).lower(), Ending.UNKNOWN)


class _Chunks:
    """A provider's stream, with an index for each call of a tool, and without some reasons to end.

    The model notes the reasons. The SDK would make up a refusal for one of them, and raise for the other.
    """

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], model: ChatCompletionsModel) -> None:
        self._stream, self._model, self._numbers = stream, model, Numbers()
        self.response = stream.response  # the SDK reads the request's id from its headers

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        chunk = await anext(self._stream)
        self._model._note_reason(chunk)
        self._numbers.renumber(chunk)
        for choice in chunk.choices or []:
            if choice.finish_reason in ("length", "content_filter"):
                choice.finish_reason = "stop"
        return chunk

    async def aclose(self) -> None:
        await self._stream.close()
