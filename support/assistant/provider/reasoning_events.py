"""Rewrites the events of a model's thoughts. ChatKit's converter makes a workflow from the new events.

Some providers send thoughts in reasoning items. Others send thoughts as a part of the answer's text. This
module makes reasoning items for the second kind.
"""

from collections.abc import Iterator
from typing import Any

from openai.types.responses import (
    ResponseOutputItemAddedEvent,
    ResponseReasoningItem,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningSummaryTextDoneEvent,
)

Events = Iterator[Any]

# ChatKit sends the whole thought again with each update. With an update for each token, the number of sent
# bytes would grow with the square of the thought's length. So the next update comes when the thought has
# grown by this share.
MIN_GROWTH = 0.05

UNUSED_POSITION: Any = {"output_index": 0, "sequence_number": 0}  # required fields that nobody reads


class ReasoningRewriter:
    """Rewrites the thoughts of one response."""

    def __init__(self) -> None:
        self._current: _Thought | None = None
        self._summarised: set[str] = set()  # ids of the reasoning items for which summaries have come
        self._items_from_text = 0

    def rewrite(self, event: Any) -> Events:
        """Yield the events that replace this event of the Agents SDK."""
        match event.type:
            case "response.reasoning_summary_text.delta":
                self._summarised.add(event.item_id)
                yield from self._add(event.item_id, event.summary_index, event.delta)
            case "response.reasoning_text.delta" if event.item_id not in self._summarised:
                yield from self._add(event.item_id, 0, event.delta)
            case "response.reasoning_summary_text.done":
                self._current = None  # a last update is not needed, because this event has the whole text
                yield event
            case _:
                yield event

    def add_from_text(self, text: str) -> Events:
        """Yield events for thoughts that the provider sent as a part of the answer's text."""
        if self._current is None or not self._current.is_from_text:
            if not (text := text.lstrip()):
                return
            yield from self.end()
            item = ResponseReasoningItem(id=f"thoughts_{self._items_from_text}", type="reasoning", summary=[])
            self._items_from_text += 1
            self._current = _Thought(item.id, 0, is_from_text=True)
            yield ResponseOutputItemAddedEvent(
                type="response.output_item.added", item=item, **UNUSED_POSITION
            )
        yield from self._current.add(text)

    def end(self) -> Events:
        """Yield the events that end the current thought, if there is one."""
        thought, self._current = self._current, None
        if thought and thought.unsent:
            yield thought.update()
        if thought and thought.is_from_text:
            yield ResponseReasoningSummaryTextDoneEvent(
                type="response.reasoning_summary_text.done",
                item_id=thought.item_id,
                summary_index=0,
                text=thought.sent.strip(),
                **UNUSED_POSITION,
            )

    def _add(self, item_id: str, index: int, text: str) -> Events:
        if self._current is None or (self._current.item_id, self._current.index) != (item_id, index):
            yield from self.end()
            self._current = _Thought(item_id, index)
        yield from self._current.add(text)


class _Thought:
    """One thought. ChatKit's converter identifies a thought by ``item_id`` and ``index``.

    ``sent``: the text in the updates. ``unsent``: the text that came after the last update.
    """

    def __init__(self, item_id: str, index: int, is_from_text: bool = False) -> None:
        self.item_id, self.index, self.is_from_text = item_id, index, is_from_text
        self.sent = self.unsent = ""

    def add(self, text: str) -> Events:
        self.unsent += text
        if len(self.unsent) >= MIN_GROWTH * len(self.sent):
            yield self.update()

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
