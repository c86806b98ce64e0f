"""Rewrites the events of a model's answer: refusals become text, thoughts in the text become reasoning.

The Agents SDK and ChatKit's converter then show a refusal as a message, and thoughts as a workflow.
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
    ResponseReasoningItem,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningSummaryTextDoneEvent,
    ResponseTextDeltaEvent,
)

from support.assistant.provider import thoughts

Events = Iterator[Any]

# ChatKit sends the whole thought with each update. With an update for each token, the bytes sent would grow
# with the square of the thought's length. So an update waits until the thought has grown by this share.
THOUGHT_GROWTH = 0.05

UNUSED_POSITION: Any = {"output_index": 0, "sequence_number": 0}  # required fields that nobody reads


class Output:
    """Rewrites the events of one response."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}  # by id: messages in progress
        self._done: list[Any] = []  # items, as the SDK's runner should see them
        self._thought: _Thought | None = None
        self._summarised: set[str] = set()  # ids of reasoning that also comes as summaries
        self._thoughts_in_text = 0
        self.is_empty = True  # valid after ``end``: there was no text and no tool call

    def rewrite(self, event: Any) -> Events:
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
                pass  # a part is announced with its first word
            case "response.output_item.done" if event.item.type == "message":
                message = self._messages.pop(event.item.id, None) or _Message(event.item)
                yield from self._end_message(message, event.item)
            case "response.output_item.done":
                yield from self._end_thought()
                self._done.append(event.item)
                yield event
            case "response.reasoning_summary_text.delta":
                self._summarised.add(event.item_id)
                yield from self._think(event.item_id, event.summary_index, event.delta)
            case "response.reasoning_text.delta" if event.item_id not in self._summarised:
                yield from self._think(event.item_id, 0, event.delta)
            case "response.reasoning_summary_text.done":
                self._thought = None  # this event has the whole text
                yield event
            case _:
                yield event

    def end(self, event: Any, is_cut: bool) -> Events:
        """Rewrite the last event, and end what the provider left open.

        A response that was cut off may contain half a tool call, so none of its calls is made.
        """
        for message in list(self._messages.values()):
            yield from self._end_message(message, message.item)
        output = event.response.output or []
        if not any(map(_is_message, self._done)):
            for item in filter(_is_message, output):  # some providers stream no text and send it whole here
                yield from self._end_message(_Message(item), item)
        yield from self._end_thought()
        output = [_plain_message(item) if _is_message(item) else item for item in output] or self._done
        self.is_empty = not any(map(_has_content, output))
        if is_cut:
            # A message ends the run, even an empty one. If the output were empty, the SDK would use the
            # streamed items and make the call.
            output = [*filter(_is_message, output)] or [_message([])]
        response = event.response.model_copy(update={"output": output, "status": "completed"})
        number = event.sequence_number
        yield ResponseCompletedEvent.model_construct(
            type="response.completed", response=response, sequence_number=number
        )

    # --- Messages ---------------------------------------------------------------------------------

    def _message(self, item_id: str) -> "_Message":
        if item_id not in self._messages:  # some providers announce no message before its first word
            self._messages[item_id] = _Message(_message([], item_id))
        return self._messages[item_id]

    def _add_text(self, message: "_Message", index: int, text: str) -> Events:
        part = message.part(index)
        for piece in part.feed(text):
            yield from self._emit(message, index, piece)

    def _end_part(self, message: "_Message", event: Any) -> Events:
        part = message.part(event.content_index)
        for piece in part.finish():
            yield from self._emit(message, event.content_index, piece)
        if part.is_announced:
            yield event.model_copy(update={"item_id": message.id, "text": part.answer()})

    def _end_message(self, message: "_Message", item: ResponseOutputMessage) -> Events:
        self._messages.pop(item.id, None)
        for index, content in enumerate(item.content):
            if index not in message.parts:  # it was not streamed
                yield from self._add_text(message, index, _text_of(content))
        for index, part in message.parts.items():
            for piece in part.finish():
                yield from self._emit(message, index, piece)
        yield from self._end_thought()
        item = (
            _plain_message(item)
            if item.content
            else _message([part.answer() for part in message.parts.values()], item.id)
        )
        self._done.append(item)
        if message.is_announced:
            yield _item_done(item.model_copy(update={"id": message.id}))

    def _emit(self, message: "_Message", index: int, piece: thoughts.Piece) -> Events:
        part = message.parts[index]
        match piece:
            case thoughts.Thought(text):
                yield from self._think_in_text(text)
            case thoughts.AnswerWasThought():
                taken = part.answer()
                if message.is_announced:
                    # ``assistant/agent.py`` tells the client to remove a message without words. The text
                    # after it is a new message. ``assistant/agent.py`` gives that an id, too.
                    yield _item_done(_message([], message.id))
                    message.id, message.is_announced, part.is_announced = FAKE_RESPONSES_ID, False, False
                part.said.clear()
                yield from self._think_in_text(taken)
            case thoughts.Answer(text):
                yield from self._end_thought()
                if not message.is_announced:
                    message.is_announced = True
                    yield ResponseOutputItemAddedEvent(
                        type="response.output_item.added", item=_message([], message.id), **UNUSED_POSITION
                    )
                place = UNUSED_POSITION | {"item_id": message.id, "content_index": index}
                if not part.is_announced:
                    part.is_announced = True
                    yield ResponseContentPartAddedEvent(
                        type="response.content_part.added", part=_text(""), **place
                    )
                part.said.append(text)
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta", delta=text, logprobs=[], **place
                )

    # --- Thoughts ---------------------------------------------------------------------------------

    def _think_in_text(self, text: str) -> Events:
        """Thoughts that came in the text. Make a reasoning item for them."""
        if self._thought is None or not self._thought.is_in_text:
            if not (text := text.lstrip()):
                return
            yield from self._end_thought()
            item = ResponseReasoningItem(
                id=f"thoughts_{self._thoughts_in_text}", type="reasoning", summary=[]
            )
            self._thoughts_in_text += 1
            self._thought = _Thought(item.id, 0, is_in_text=True)
            yield ResponseOutputItemAddedEvent(
                type="response.output_item.added", item=item, **UNUSED_POSITION
            )
        yield from self._extend_thought(self._thought, text)

    def _think(self, item_id: str, index: int, text: str) -> Events:
        if self._thought is None or (self._thought.item_id, self._thought.index) != (item_id, index):
            yield from self._end_thought()
            self._thought = _Thought(item_id, index)
        yield from self._extend_thought(self._thought, text)

    def _extend_thought(self, thought: "_Thought", text: str) -> Events:
        thought.unsent += text
        if len(thought.unsent) >= THOUGHT_GROWTH * len(thought.sent):
            yield thought.update()

    def _end_thought(self) -> Events:
        thought, self._thought = self._thought, None
        if thought and thought.unsent:
            yield thought.update()
        if thought and thought.is_in_text:
            yield ResponseReasoningSummaryTextDoneEvent(
                type="response.reasoning_summary_text.done",
                item_id=thought.item_id,
                summary_index=0,
                text=thought.sent.strip(),
                **UNUSED_POSITION,
            )


class _Message:
    """A message in progress. It is announced with its first word, which may come after thoughts."""

    def __init__(self, item: ResponseOutputMessage) -> None:
        self.item, self.id = item, item.id
        self.is_announced = False
        self.parts: dict[int, _Part] = {}

    def part(self, index: int) -> "_Part":
        # Thoughts are only at the beginning of an answer, so in its first part.
        return self.parts.setdefault(index, _Part(None if self.parts else thoughts.Splitter()))


class _Part:
    def __init__(self, splitter: thoughts.Splitter | None) -> None:
        self._splitter = splitter
        self.said: list[str] = []
        self.is_announced = False

    def feed(self, text: str) -> Iterator[thoughts.Piece]:
        return self._splitter.feed(text) if self._splitter else iter([thoughts.Answer(text)])

    def finish(self) -> Iterator[thoughts.Piece]:
        return self._splitter.finish() if self._splitter else iter([])

    def answer(self) -> str:
        return "".join(self.said)


class _Thought:
    """``item_id``, ``index``: what ChatKit's converter identifies it by."""

    def __init__(self, item_id: str, index: int, is_in_text: bool = False) -> None:
        self.item_id, self.index, self.is_in_text = item_id, index, is_in_text
        self.sent = self.unsent = ""

    def update(self) -> ResponseReasoningSummaryTextDeltaEvent:
        delta, self.unsent = self.unsent, ""
        self.sent += delta
        return ResponseReasoningSummaryTextDeltaEvent(
            type="response.reasoning_summary_text.delta",
            item_id=self.item_id,
            summary_index=self.index,
            delta=delta,
            **UNUSED_POSITION,
        )


def _is_message(item: Any) -> bool:
    return bool(item.type == "message")


def _has_content(item: Any) -> bool:
    if _is_message(item):
        return any(part.text.strip() for part in item.content)
    return bool(item.type != "reasoning")


def _plain_message(item: ResponseOutputMessage) -> ResponseOutputMessage:
    """The message with refusals as text, and without thoughts."""
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
