"""A model to talk to: OpenAI's APIs on the loopback address, saying what a test has it say.

In the test's own process, from threads; or in one that a test can kill and a developer can start:
``python -m tests.model_server --help``.
"""

import argparse
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import cleandoc
from typing import Any

from tests import model_answers, model_quirks

PATIENCE_SECONDS = 20  # how long a silent model waits for its client to leave


@dataclass
class Turn:
    """One answer of the model's: words, or ``tools`` to be called first, each with its arguments.

    ``ending``: "complete"; "silence" (no more until the client leaves); "hang up", "nonsense" (no JSON) and
    "failure" (says itself that it failed), after words as soon as the test says that they were ``heard``.
    ``held``: says nothing before that.
    ``announced``: whether it opens a message before the first word, as some that speak Responses do not.
    ``refusal``: words in the API's own field for them, after the others.
    ``reasoning``: thoughts before any word, in ``reasoning_field``: Chat Completions has "reasoning_content"
    and "reasoning"; Responses has a summary in place of the first and the text itself for the second.
    ``finish_reason``: as in Chat Completions. Over Responses, any other than "stop" is an incomplete
    response.
    ``pause``: seconds of silence after each event.
    ``same_index``: gives index 0 to every tool call, as some providers of Chat Completions do.
    """

    tokens: list[str] = field(default_factory=list)
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ending: str = "complete"
    held: bool = False
    announced: bool = True
    refusal: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    reasoning_field: str = "reasoning_content"
    finish_reason: str | None = "stop"
    pause: float = 0.0
    same_index: bool = False


@dataclass
class Call:
    """A request, as the model got it. ``abandoned``: the client hung up before the answer was complete."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    raw: bytes = b""
    abandoned: threading.Event = field(default_factory=threading.Event)

    @property
    def _said(self) -> list[dict[str, Any]]:
        return list(self.body["input"] if "input" in self.body else self.body["messages"])

    @property
    def conversation(self) -> list[tuple[str, str]]:
        """Who said what: ``[("user", "Hello"), …]``."""
        roles = ("user", "assistant")
        return [
            (said["role"], text(said["content"]))
            for said in self._said
            if said.get("role") in roles and said["content"]
        ]

    @property
    def instructions(self) -> str:
        if "instructions" in self.body:
            return str(self.body["instructions"])
        return next(text(said["content"]) for said in self._said if said["role"] == "system")

    @property
    def tools(self) -> list[str]:
        return [tool.get("function", tool)["name"] for tool in self.body.get("tools", [])]

    @property
    def tool_outputs(self) -> list[str]:
        outputs = [said["output"] for said in self._said if said.get("type") == "function_call_output"]
        return [
            text(output)
            for output in outputs + [said["content"] for said in self._said if said.get("role") == "tool"]
        ]


def text(content: Any) -> str:
    """Of a message's content, which is a text or a list of parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@dataclass
class Model:
    """A running model server. ``turns`` is its part in the play: one a call, and the last for all others."""

    origin: str

    turns: list[Turn] = field(default_factory=lambda: [Turn()])
    title: Turn = field(default_factory=Turn)
    transcript: Turn = field(default_factory=Turn)
    quirks: set[str] = field(default_factory=set)  # names of tests/model_quirks.py

    calls: list[Call] = field(default_factory=list)  # for a stream
    title_calls: list[Call] = field(default_factory=list)  # for a whole answer
    transcriptions: list[Call] = field(default_factory=list)
    refused: list[Call] = field(default_factory=list)  # because of a quirk
    heard: threading.Event = field(default_factory=threading.Event)
    first_called_at: float = 0.0  # on the monotonic clock
    tunnels: list[str] = field(default_factory=list)  # where to, of a client that took us for its proxy
    _turning: threading.Lock = field(default_factory=threading.Lock)

    def play(self, *tokens: str, **turn: Any) -> "Model":
        self.turns, self.title, self.transcript = [], Turn(["A title"]), Turn(["What was said"])
        self.quirks = set()
        for calls in (self.calls, self.title_calls, self.transcriptions, self.refused):
            calls.clear()
        self.heard.clear()
        return self.then(*tokens, **turn)

    def then(self, *tokens: str, **turn: Any) -> "Model":
        self.turns.append(Turn(list(tokens), **turn))
        return self

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def take(self, call: Call) -> Turn:
        """What to answer to the call."""
        self.first_called_at = self.first_called_at or time.monotonic()
        if call.path.endswith("/audio/transcriptions"):
            self.transcriptions.append(call)
            return self.transcript
        if not call.body.get("stream"):
            self.title_calls.append(call)
            return self.title
        with self._turning:
            self.calls.append(call)
            return self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]


@contextmanager
def model_server(port: int = 0) -> Iterator[Model]:
    """Serve from threads of its own, one for each call."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        server.model = Model(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.model  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw) if self.headers["Content-Type"] == "application/json" else {}
        call = Call(self.path, body, {name.lower(): value for name, value in self.headers.items()}, raw)
        model: Model = self.server.model  # type: ignore[attr-defined]
        self.close_connection = True
        if refusal := model_quirks.refusal(model.quirks, body):
            model.refused.append(call)
            self._whole(*refusal)
            return
        turn = model.take(call)
        if turn.held:
            self.server.model.heard.wait(PATIENCE_SECONDS)  # type: ignore[attr-defined]
        try:
            if turn.status != 200:
                self._refuse(turn)
            elif body.get("stream"):
                self._stream(turn, call)
            else:
                self._answer(turn, call)
        except ConnectionError:
            call.abandoned.set()

    def do_GET(self) -> None:
        """For whoever waits until we are up."""
        self._whole(200, {})

    def do_CONNECT(self) -> None:
        self.server.model.tunnels.append(self.path)  # type: ignore[attr-defined]
        self._refuse(Turn(status=403))

    def _refuse(self, turn: Turn) -> None:
        error = {"message": "The model is not well", "type": "server_error", "code": "model_code"}
        self._whole(turn.status, {"error": error}, turn.headers)

    def _answer(self, turn: Turn, call: Call) -> None:
        if turn.ending == "silence" and self._client_leaves():
            call.abandoned.set()
            return
        self._whole(200, model_answers.whole(turn, call.path, call.body))

    def _whole(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")  # else the client may reuse a connection that we close
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, turn: Turn, call: Call) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for frame in model_answers.frames(turn, call.path, call.body):
            self._chunk(frame.encode())
            time.sleep(turn.pause)
        if turn.tokens and turn.ending in ("hang up", "nonsense", "failure"):
            self.server.model.heard.wait(PATIENCE_SECONDS)  # type: ignore[attr-defined]
        match turn.ending:
            case "complete":
                self._chunk(b"")  # the last chunk: a client that does not get it knows that we broke off
            case "nonsense":
                self._chunk(b"event: response.created\ndata: <html>Bad gateway</html>\n\n")
                self._chunk(b"")
            case "failure":
                self._chunk(model_answers.failure(call.path, call.body).encode())
                self._chunk(b"")
            case "silence":
                if self._client_leaves():
                    call.abandoned.set()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _client_leaves(self) -> bool:
        self.connection.settimeout(PATIENCE_SECONDS)
        with suppress(ConnectionError):
            try:
                return self.connection.recv(1) == b""
            except TimeoutError:
                return False
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


TURN_IN_JSON = f"""\
A turn in JSON has any of these keys, here with their defaults:

{json.dumps(asdict(Turn()), indent=2)}

{cleandoc(str(Turn.__doc__))}"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model_server",
        description="A model to talk to. Each call gets the next answer, and the last one again and again.\n"
        "A client repeats a call that has failed: that is the next call.\n"
        "It prints what to set; it speaks SUPPORT_MODEL_API=chat_completions as well.",
        epilog=TURN_IN_JSON,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--say", action="append", default=[], metavar="WORDS", help="an answer; repeatable")
    parser.add_argument(
        "--turn",
        action="append",
        default=[],
        type=json.loads,
        metavar="JSON",
        help='any other answer, as {"tools": [["mcp_todo__add", {"text": "Milk"}]]}; after those of --say',
    )
    parser.add_argument(
        "--quirk",
        action="append",
        default=[],
        choices=list(model_quirks.QUIRKS),
        help="what the model refuses; repeatable",
    )
    options = parser.parse_args()
    said = [Turn(re.findall(r"\S+\s*", words)) for words in options.say]
    with model_server(options.port) as running:
        running.turns = said + [Turn(**turn) for turn in options.turn] or [Turn(["Good ", "morning", "!"])]
        running.title, running.quirks = Turn(["A title"]), set(options.quirk)
        print(f"OPENAI_BASE_URL={running.base_url}")
        print("SUPPORT_MODEL=any-name")
        print("SUPPORT_MODEL_API=responses", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
