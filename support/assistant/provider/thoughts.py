"""Splits a model's text into thoughts and the answer. Example: ``<think>The user greets me.</think>Hello!``

The rules:

- Thoughts stand at the beginning of a text. White space may come before them. An opening tag later in the
text
  is a part of the answer.
- There may be several blocks of thoughts. The last block may have no closing tag.
- Any closing tag ends any block.
- Some models leave out the first opening tag, because their prompt already contains this tag. So if the first
  tag is a closing tag, all text before this tag is thoughts.
- Such a closing tag is ignored if the text only mentions it: in code, in quotation marks, or in the middle of
  a sentence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TAG_NAMES = ("think", "thinking", "thought", "thoughts", "reason", "reasoning")
OPENING_TAGS = (*(f"<{name}>" for name in TAG_NAMES), "[think]", "◁think▷", "<|begin_of_thought|>")
CLOSING_TAGS = (*(f"</{name}>" for name in TAG_NAMES), "[/think]", "◁/think▷", "<|end_of_thought|>")


def _any_of(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tags)), re.IGNORECASE | re.ASCII)


OPENING, CLOSING = _any_of(OPENING_TAGS), _any_of(CLOSING_TAGS)
ANY_TAG = _any_of(OPENING_TAGS + CLOSING_TAGS)
LONGEST_TAG = max(map(len, OPENING_TAGS + CLOSING_TAGS))

FENCE = re.compile(r" {0,3}(?:```|~~~)")
# The text after a closing tag decides whether the tag is only mentioned. While only blanks follow the tag,
# the splitter waits for more text, up to this number of blanks. There is a limit because the splitter reads
# all blanks again with each new piece: the time grows with the square of their number.
MAX_BLANKS = 100
TEXT_AFTER_TAG = re.compile(rf"[^ \t]|[ \t]{{{MAX_BLANKS}}}")
# A closing tag is mentioned if the text on both sides looks like the middle of a sentence, or like quotation
# marks.
SENTENCE_BEFORE = re.compile(r"[\w,;:][ \t]+\Z")
SENTENCE_AFTER = re.compile(rf"[ \t]{{0,{MAX_BLANKS - 1}}}[,.;:!?)]|[ \t]{{1,{MAX_BLANKS - 1}}}[a-z]")
QUOTE_BEFORE = re.compile(r"[\"'“”„‘’«»(]\Z")  # noqa: RUF001
QUOTE_AFTER = re.compile(r"[\"'“”„‘’«»)]")  # noqa: RUF001


@dataclass(frozen=True)
class Thought:
    """A piece of the thoughts."""

    text: str


@dataclass(frozen=True)
class Answer:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class AnswerWasThought:
    """All text that was yielded as ``Answer`` before this object was a thought."""


Piece = Thought | Answer | AnswerWasThought


def split(text: str) -> tuple[str, str]:
    """Return the thoughts and the answer of a complete text."""
    splitter = Splitter()
    thoughts, answer = "", ""
    for piece in [*splitter.feed(text), *splitter.finish()]:
        match piece:
            case Thought(part):
                thoughts += part
            case Answer(part):
                answer += part
            case AnswerWasThought():
                thoughts, answer = thoughts + answer, ""
    return thoughts, answer


def remove(text: str) -> str:
    """Return the text without thoughts."""
    return split(text)[1]


class Splitter:
    """Splits an answer that comes in pieces of any length. Call ``feed`` with each piece, then ``finish``.

    A splitter yields text as soon as possible. It holds back only an incomplete tag, white space before the
    first word, and blanks after a closing tag.
    """

    def __init__(self) -> None:
        # The function that reads the next text. It is not a bound method: that would be a reference cycle.
        self._step = Splitter._begin
        self._held = ""  # the text that was fed and is not yielded yet
        self._position = _MarkdownPosition()  # of the end of the text that ``_watch`` has read
        self._has_thought = False
        self._is_complete = False

    def feed(self, text: str) -> Iterator[Piece]:
        self._held += text
        while True:
            step = self._step
            yield from step(self)
            if self._step == step:
                return

    def finish(self) -> Iterator[Piece]:
        self._is_complete = True
        yield from self.feed("")

    def _begin(self) -> Iterator[Piece]:
        """Read text before the first word of the answer, or between two blocks of thoughts."""
        text = self._held.lstrip()
        if self._has_thought:
            self._held = text
        if tag := OPENING.match(text):
            self._held, self._step = text[tag.end() :], Splitter._think
        elif text and (self._is_complete or not _may_become(text, OPENING_TAGS)):
            self._step = Splitter._answer if self._has_thought else Splitter._watch
        yield from ()

    def _think(self) -> Iterator[Piece]:
        """Read a block of thoughts, up to its closing tag."""
        self._has_thought = True
        if tag := CLOSING.search(self._held):
            thought, self._held, self._step = (
                self._held[: tag.start()],
                self._held[tag.end() :],
                Splitter._begin,
            )
        else:
            thought = self._take(self._incomplete_tag(CLOSING_TAGS))
        if thought:
            yield Thought(thought)

    def _watch(self) -> Iterator[Piece]:
        """Read text that began without a tag. It is the answer, unless the first tag is a closing tag."""
        read = 0
        while tag := ANY_TAG.search(self._held, read):
            if OPENING.match(tag[0]):
                self._step = Splitter._answer
                return
            self._position.read(self._held[read : tag.start()])
            if not (self._is_complete or TEXT_AFTER_TAG.search(self._held, tag.end())):
                yield from self._yield_answer(tag.start())  # wait for the text after the tag
                return
            if not self._is_mentioned(tag):
                yield AnswerWasThought()
                if thought := self._held[: tag.start()]:
                    yield Thought(thought)
                self._held, self._has_thought, self._step = self._held[tag.end() :], True, Splitter._begin
                return
            read = tag.end()
            self._position.read(tag[0])
        end = max(read, self._incomplete_tag(OPENING_TAGS + CLOSING_TAGS))
        self._position.read(self._held[read:end])
        yield from self._yield_answer(end)

    def _is_mentioned(self, tag: re.Match[str]) -> bool:
        """Whether the text only mentions the closing tag, so that the tag ends no thoughts."""
        if self._position.is_in_code:
            return True
        before = self._position.line_end
        in_quotes = QUOTE_BEFORE.search(before) and QUOTE_AFTER.match(self._held, tag.end())
        in_sentence = SENTENCE_BEFORE.search(before) and SENTENCE_AFTER.match(self._held, tag.end())
        return bool(in_quotes or in_sentence)

    def _answer(self) -> Iterator[Piece]:
        """Read text that is surely the answer."""
        yield from self._yield_answer(len(self._held))

    def _yield_answer(self, length: int) -> Iterator[Piece]:
        if length:
            yield Answer(self._take(length))

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken

    def _incomplete_tag(self, tags: tuple[str, ...]) -> int:
        """Return the index in the held text at which an incomplete tag may begin.

        If there is none, this is the length of the text.
        """
        length = len(self._held)
        if self._is_complete:
            return length
        starts = (
            start for start in range(max(0, length - LONGEST_TAG), length) if self._held[start] in "<[◁"
        )
        return next((start for start in starts if _may_become(self._held[start:], tags)), length)


class _MarkdownPosition:
    """Knows whether a Markdown text ends inside code, and how its last line ends.

    It keeps only the first and the last few characters of the line.
    """

    def __init__(self) -> None:
        self._is_in_code_block = False
        self._backticks, self._line_start, self.line_end = 0, "", ""

    @property
    def is_in_code(self) -> bool:
        return self._is_in_code_block or bool(FENCE.match(self._line_start)) or self._backticks % 2 == 1

    def read(self, text: str) -> None:
        *lines, rest = text.split("\n")
        for line in lines:
            self._read_line_part(line)
            self._is_in_code_block ^= bool(FENCE.match(self._line_start))
            self._backticks, self._line_start, self.line_end = 0, "", ""
        self._read_line_part(rest)

    def _read_line_part(self, text: str) -> None:
        self._backticks += text.count("`")
        self._line_start = (self._line_start + text[:10])[:10]
        self.line_end = (self.line_end + text[-20:])[-20:]


def _may_become(text: str, tags: tuple[str, ...]) -> bool:
    """Whether one of the tags begins with the text."""
    return any(tag.startswith(text.lower()) for tag in tags)
