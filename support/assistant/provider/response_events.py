"""Rewrites the events of a model's answer. A refusal becomes text, and thoughts in the text become reasoning.

ChatKit's converter then makes a message from the refusal, and a workflow from the thoughts.
"""

from collections.abc import Iterator
from typing import Any

from agents.models.fake_id import FAKE_RESPONSES_ID
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseContentPartAddedEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from support.assistant.provider import thoughts
from support.assistant.provider.reasoning_events import UNUSED_POSITION, Events, ReasoningRewriter


class ResponseRewriter:
    """Rewrites the events of one response."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}  # the messages in progress, by id
        self._done: list[Any] = []  # the finished items, in the form that the Agents SDK's runner should see
        self._reasoning = ReasoningRewriter()
        self.is_empty = True  # set by ``end``: whether the answer has neither text nor a tool call

    def rewrite(self, event: Any) -> Events:
        """Yield the events that replace this event of the Agents SDK."""
        match event.type:
            case "response.output_item.added" if event.item.type == "message":
                self._messages[event.item.id] = _Message(event.item)
            case "response.output_text.delta" | "response.refusal.delta":
                yield from self._add_text(self._message(event.item_id), event.content_index, event.delta)
            case "response.output_text.done":
                yield from self._end_part(self._message(event.item_id), event)
            case "response.output_text.annotation.added":
                if (message := self._messages.get(event.item_id)) and message.is_announced:
                    yield event.model_copy(update={"item_id": message.id})
            case "response.content_part.added" | "response.content_part.done" if (
                event.part.type != "reasoning_text"
            ):
                pass  # ``_emit`` announces a part when the part has text
            case "response.output_item.done" if event.item.type == "message":
                message = self._messages.pop(event.item.id, None) or _Message(event.item)
                yield from self._end_message(message, event.item)
            case "response.output_item.done":
                yield from self._reasoning.end()
                self._done.append(event.item)
                yield event
            case _:
                yield from self._reasoning.rewrite(event)

    def end(self, event: Any, is_cut: bool) -> Events:
        """Rewrite the last event of the response, and end the messages that the provider did not end.

        ``is_cut``: whether the response was cut off. The last tool call of such a response may be incomplete,
        so the tool calls are removed.
        """
        for message in list(self._messages.values()):
            yield from self._end_message(message, message.item)
        output = event.response.output or []
        if not any(map(_is_message, self._done)):
            for item in filter(_is_message, output):  # some providers send a message only in the last event
                yield from self._end_message(_Message(item), item)
        yield from self._reasoning.end()
        output = [_plain_message(item) if _is_message(item) else item for item in output] or self._done
        self.is_empty = not any(map(_has_content, output))
        if is_cut:
            # A message ends the run, even an empty message. With an empty output, the Agents SDK would use
            # the streamed items and call the tool.
            output = [*filter(_is_message, output)] or [_message([])]
        response = event.response.model_copy(update={"output": output, "status": "completed"})
        number = event.sequence_number
        yield ResponseCompletedEvent.model_construct(
            type="response.completed", response=response, sequence_number=number
        )

    def _message(self, item_id: str) -> "_Message":
        """Return the message in progress with this id."""
        if item_id not in self._messages:  # some providers do not announce a message
            self._messages[item_id] = _Message(_message([], item_id))
        return self._messages[item_id]

    def _add_text(self, message: "_Message", index: int, text: str) -> Events:
        for piece in message.part(index).feed(text):
            yield from self._emit(message, index, piece)

    def _end_part(self, message: "_Message", event: Any) -> Events:
        """Yield the rest of a part's text, and the event that ends the part."""
        part = message.part(event.content_index)
        for piece in part.finish():
            yield from self._emit(message, event.content_index, piece)
        if part.is_announced:
            yield event.model_copy(update={"item_id": message.id, "text": part.text()})

    def _end_message(self, message: "_Message", item: ResponseOutputMessage) -> Events:
        """Yield the rest of a message, and the event that ends it. ``item``: the provider's message."""
        self._messages.pop(item.id, None)
        for index, content in enumerate(item.content):
            if index not in message.parts:  # this part was not streamed
                yield from self._add_text(message, index, _text_of(content))
        for index, part in message.parts.items():
            for piece in part.finish():
                yield from self._emit(message, index, piece)
        yield from self._reasoning.end()
        item = (
            _plain_message(item)
            if item.content
            else _message([part.text() for part in message.parts.values()], item.id)
        )
        self._done.append(item)
        if message.is_announced:
            yield _item_done(item.model_copy(update={"id": message.id}))

    def _emit(self, message: "_Message", index: int, piece: thoughts.Piece) -> Events:
        """Yield the events for one piece of a part's text. ``index``: of the part in its message."""
        part = message.parts[index]
        match piece:
            case thoughts.Thought(text):
                yield from self._reasoning.add_from_text(text)
            case thoughts.AnswerWasThought():
                thought = part.text()
                if message.is_announced:
                    # The client has already got the text. So end the message without text here:
                    # ``assistant/agent.py`` then tells the client to remove the message. The text that
                    # follows becomes a new message, to which ``assistant/agent.py`` gives an id.
                    yield _item_done(_message([], message.id))
                    message.id, message.is_announced, part.is_announced = FAKE_RESPONSES_ID, False, False
                part.texts.clear()
                yield from self._reasoning.add_from_text(thought)
            case thoughts.Answer(text):
                yield from self._reasoning.end()
                if not message.is_announced:
                    message.is_announced = True
                    yield ResponseOutputItemAddedEvent(
                        type="response.output_item.added", item=_message([], message.id), **UNUSED_POSITION
                    )
                position = UNUSED_POSITION | {"item_id": message.id, "content_index": index}
                if not part.is_announced:
                    part.is_announced = True
                    yield ResponseContentPartAddedEvent(
                        type="response.content_part.added", part=_text(""), **position
                    )
                part.texts.append(text)
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta", delta=text, logprobs=[], **position
                )


class _Message:
    """A message in progress.

    ``is_announced``: whether the client knows the message. The message is announced with its first text,
    because it may begin with thoughts.
    """

    def __init__(self, item: ResponseOutputMessage) -> None:
        self.item, self.id = item, item.id
        self.is_announced = False
        self.parts: dict[int, _Part] = {}

    def part(self, index: int) -> "_Part":
        # Thoughts are only at the beginning of an answer, so only the first part needs a splitter.
        return self.parts.setdefault(index, _Part(None if self.parts else thoughts.Splitter()))


class _Part:
    """One content part of a message in progress. ``texts``: the pieces that were sent, without thoughts."""

    def __init__(self, splitter: thoughts.Splitter | None) -> None:
        self._splitter = splitter
        self.texts: list[str] = []
        self.is_announced = False

    def feed(self, text: str) -> Iterator[thoughts.Piece]:
        return self._splitter.feed(text) if self._splitter else iter([thoughts.Answer(text)])

    def finish(self) -> Iterator[thoughts.Piece]:
        return self._splitter.finish() if self._splitter else iter([])

    def text(self) -> str:
        return "".join(self.texts)


def _is_message(item: Any) -> bool:
    return bool(item.type == "message")


def _has_content(item: Any) -> bool:
    if _is_message(item):
        return any(part.text.strip() for part in item.content)
    return bool(item.type != "reasoning")


def _plain_message(item: ResponseOutputMessage) -> ResponseOutputMessage:
    """Return the message with refusals as text, and without thoughts."""
    content = [
        _text(_text_of(part)) if part.type == "refusal" else part.model_copy() for part in item.content
    ]
    for part in content[:1]:
        part.text = thoughts.remove(part.text)
    return item.model_copy(update={"content": content})


def _text_of(part: Any) -> str:
    return str(part.refusal if part.type == "refusal" else part.text)


def _text(text: str) -> ResponseOutputText:
    return ResponseOutputText(type="output_text", text=text, annotations=[])


def _message(texts: list[str], item_id: str = FAKE_RESPONSES_ID) -> ResponseOutputMessage:
    return ResponseOutputMessage(
        id=item_id,
        type="message",
        role="assistant",
        status="completed",
        content=[_text(text) for text in texts],
    )


def _item_done(item: ResponseOutputMessage) -> ResponseOutputItemDoneEvent:
    return ResponseOutputItemDoneEvent(type="response.output_item.done", item=item, **UNUSED_POSITION)
