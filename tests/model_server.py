"""A model to talk to: OpenAI's Responses API on the loopback address, saying what a test has it say."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_SECONDS = 20  # how long a silent model waits for its client to leave


@dataclass
class Call:
    """A request, as the model got it. ``abandoned``: the client hung up before the answer was complete."""

    body: dict[str, Any]
    headers: dict[str, str]
    abandoned: threading.Event = field(default_factory=threading.Event)

    @property
    def conversation(self) -> list[tuple[str, str]]:
        """Who said what: ``[("user", "Hello"), …]``."""
        return [
            (said["role"], "".join(part["text"] for part in said["content"])) for said in self.body["input"]
        ]


@dataclass
class Model:
    """A running model server. The fields in the middle are its part in the play, for every call."""

    origin: str

    tokens: list[str] = field(default_factory=list)
    status: int = 200
    ending: str = "complete"  # or "hang up", or "silence": says no more until the client leaves

    calls: list[Call] = field(default_factory=list)
    first_called_at: float = 0.0  # on the monotonic clock
    tunnels: list[str] = field(default_factory=list)  # where to, of a client that took us for its proxy

    def play(self, *tokens: str, status: int = 200, ending: str = "complete") -> None:
        self.tokens, self.status, self.ending = list(tokens), status, ending
        self.calls.clear()

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"


@contextmanager
def model_server() -> Iterator[Model]:
    """Serve from threads of its own, one for each call."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
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
        model: Model = self.server.model  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model.calls.append(call := Call(body, {name.lower(): text for name, text in self.headers.items()}))
        model.first_called_at = model.first_called_at or time.monotonic()
        self.close_connection = True
        if model.status != 200:
            self._refuse(model.status)
            return
        try:
            self._answer(model, body)
        except ConnectionError:
            call.abandoned.set()
            return
        if model.ending == "silence" and self._client_leaves():
            call.abandoned.set()

    def do_CONNECT(self) -> None:
        self.server.model.tunnels.append(self.path)  # type: ignore[attr-defined]
        self._refuse(403)

    def _refuse(self, status: int) -> None:
        body = json.dumps({"error": {"message": "The model is not well", "type": "server_error"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, model: Model, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(_events(model, body)):
            frame = f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"
            self._chunk(frame.encode())
        if model.ending == "complete":
            self._chunk(b"")  # the last chunk: a client that does not get it knows that we broke off
        elif model.ending == "hang up":
            time.sleep(0.2)  # what was said is heard before the break

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


def _events(model: Model, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of one answer, in the order of OpenAI's own."""
    message: dict[str, Any] = {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    response: dict[str, Any] = {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": body["model"],
        "status": "in_progress",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    part = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": response}
    yield {"type": "response.output_item.added", "output_index": 0, "item": message}
    yield part | {"type": "response.content_part.added", "part": _text("")}
    for token in model.tokens:
        yield part | {"type": "response.output_text.delta", "delta": token, "logprobs": []}
    if model.ending != "complete":
        return
    text = "".join(model.tokens)
    said = message | {"status": "completed", "content": [_text(text)]}
    yield part | {"type": "response.output_text.done", "text": text, "logprobs": []}
    yield part | {"type": "response.content_part.done", "part": _text(text)}
    yield {"type": "response.output_item.done", "output_index": 0, "item": said}
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(model.tokens),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1 + len(model.tokens),
    }
    whole = response | {"status": "completed", "output": [said], "usage": usage}
    yield {"type": "response.completed", "response": whole}


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}
