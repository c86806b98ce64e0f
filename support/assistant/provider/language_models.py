"""Extends the two models of the Agents SDK, for OpenAI's Responses API and for Chat Completions.

Both models of the Agents SDK emit events of the Responses API. But these models have three faults for us:

- They drop the ``finish_reason`` of Chat Completions.
- They raise an exception if the provider refuses to answer or cuts the answer off.
- They treat thoughts in the text as a part of the answer.

So the models in this module record how an answer ended, and rewrite the events. The Agents SDK's runner and
ChatKit's converter then read the rewritten events.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum
from typing import Any

from agents import Model, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel
from agents.models import get_default_model_settings
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from support.assistant.provider import input_items
from support.assistant.provider.input_items import Item
from support.assistant.provider.response_events import ResponseRewriter
from support.assistant.provider.simpler_requests import ModelRequests
from support.assistant.provider.tool_call_indexes import ToolCallIndexes


class AnswerEnding(StrEnum):
    """How an answer of the model ended."""

    COMPLETE = "complete"
    LENGTH = "length"  # the answer reached the limit of tokens
    FILTER = "filter"  # the provider's content filter stopped the answer
    UNKNOWN = "unknown"  # the provider gave no reason, or a reason that is not in FINISH_REASONS
    EMPTY = "empty"  # the answer has no text and no tool call, and the provider gave no reason for that


# The reasons that the two APIs define, and reasons that other providers send instead.
FINISH_REASONS = {
    AnswerEnding.COMPLETE: (
        *("stop", "tool_calls", "function_call"),
        *("end_turn", "stop_sequence", "tool_use", "eos"),
    ),
    AnswerEnding.LENGTH: ("length", "max_tokens", "max_output_tokens", "model_length"),
    AnswerEnding.FILTER: ("content_filter", "safety"),
}
ENDING_OF_REASON = {reason: ending for ending, reasons in FINISH_REASONS.items() for reason in reasons}


class LanguageModel(Model):
    """Sends a simpler request if the provider refuses one, and rewrites the events of the answer.

    ``ending``: how the newest answer ended. A model is made for one run, so it gives one answer at a time.
    ``is_default``: whether the model answers for agents that name no model. The Agents SDK gives these agents
    the settings of its own default model, which other models refuse.

    Overrides ``_fetch_response``, a private method of the Agents SDK's models, for two reasons:

    - No event has been emitted when this method runs. So it can still send another request.
    - No public method sees the provider's own chunks.

    A wrapper around the client would not work: the Agents SDK copies the client to set its retries, and the
    copy has no wrapper.
    """

    ending = AnswerEnding.COMPLETE

    def __init__(
        self, name: str, client: AsyncOpenAI, requests: ModelRequests, is_default: bool = False
    ) -> None:
        super().__init__(name, client)  # type: ignore[call-arg]
        self._name, self._requests, self._is_default = name, requests, is_default

    async def _fetch_response(
        self,
        system_instructions: Any,
        input: Any,  # noqa: A002
        model_settings: Any,
        *args: Any,
        **options: Any,
    ) -> Any:
        fetch: Any = super()._fetch_response  # type: ignore[misc]
        if self._is_default:
            model_settings = self._without_foreign_defaults(model_settings)
        if isinstance(input, str):
            return await fetch(system_instructions, input, model_settings, *args, **options)

        async def send(items: Any) -> Any:
            return await fetch(system_instructions, self._prepare(items), model_settings, *args, **options)

        return await self._requests.send(input, send)

    def _without_foreign_defaults(self, settings: ModelSettings) -> ModelSettings:
        foreign, own = get_default_model_settings(), get_default_model_settings(self._name)
        if (settings.reasoning, settings.verbosity) != (foreign.reasoning, foreign.verbosity):
            return settings  # the team has set them
        return replace(settings, reasoning=own.reasoning, verbosity=own.verbosity)

    def _prepare(self, items: list[Item]) -> list[Item]:
        return input_items.simplify(items)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[ResponseStreamEvent]:
        rewriter = ResponseRewriter()
        stream: Any = super().stream_response(*args, **kwargs)  # type: ignore[safe-super]
        async with aclosing(stream) as events:
            async for event in events:
                if event.type not in ("response.completed", "response.incomplete"):
                    for rewritten in rewriter.rewrite(event):
                        yield rewritten
                    continue
                self._note_ending(event.response)
                is_cut = event.type == "response.incomplete"
                is_cut = is_cut or self.ending in (AnswerEnding.LENGTH, AnswerEnding.FILTER)
                for rewritten in rewriter.end(event, is_cut):
                    yield rewritten
                if rewriter.is_empty and self.ending in (AnswerEnding.COMPLETE, AnswerEnding.UNKNOWN):
                    self.ending = AnswerEnding.EMPTY
                if event.type == "response.incomplete":
                    return  # the Agents SDK's stream would raise an exception next

    def _note_ending(self, response: Response) -> None:
        """Set ``ending`` from the last event's response, if the API gives the reason there."""


class ResponsesModel(LanguageModel, OpenAIResponsesModel):
    def _note_ending(self, response: Response) -> None:
        details = response.incomplete_details
        if response.status == "incomplete" or details:
            self.ending = ENDING_OF_REASON.get(str(details and details.reason).lower(), AnswerEnding.UNKNOWN)
        else:
            self.ending = AnswerEnding.COMPLETE


class ChatCompletionsModel(LanguageModel, OpenAIChatCompletionsModel):
    def _prepare(self, items: list[Item]) -> list[Item]:
        return super()._prepare(input_items.with_pictures_after_tools(items))

    async def _fetch_response(self, *args: Any, **kwargs: Any) -> Any:
        fetched = await super()._fetch_response(*args, **kwargs)
        self.ending = AnswerEnding.UNKNOWN
        if isinstance(fetched, ChatCompletion):
            self._note_finish_reason(fetched)
            return fetched
        response, stream = fetched
        return response, _Chunks(stream, self)

    def _note_finish_reason(self, answer: ChatCompletion | ChatCompletionChunk) -> None:
        for choice in answer.choices or []:  # some providers send null for an empty list
            if choice.index == 0 and choice.finish_reason:
                self.ending = ENDING_OF_REASON.get(str(choice.finish_reason).lower(), AnswerEnding.UNKNOWN)


class _Chunks:
    """A stream of Chat Completions, changed so that the Agents SDK can read it.

    Each tool call gets its own index. The model records the finish reason. After that, ``length`` and
    ``content_filter`` become ``stop``: the Agents SDK would raise an exception for the one, and add a refusal
    that the provider did not send for the other.
    """

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], model: ChatCompletionsModel) -> None:
        self._stream, self._model, self._indexes = stream, model, ToolCallIndexes()
        self.response = stream.response  # the Agents SDK reads the request's id from the response's headers

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        chunk = await anext(self._stream)
        self._model._note_finish_reason(chunk)
        self._indexes.rewrite(chunk)
        for choice in chunk.choices or []:
            if choice.finish_reason in ("length", "content_filter"):
                choice.finish_reason = "stop"
        return chunk

    async def aclose(self) -> None:
        await self._stream.close()
