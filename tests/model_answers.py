"""What OpenAI's models send: the frames of a stream and whole answers, in the shapes of both APIs."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.model_server import Turn

Json = dict[str, Any]


def frames(turn: "Turn", path: str, body: Json) -> Iterator[str]:
    """Server-sent events. Those of a turn that is not complete stop after its last word."""
    if path.endswith("/chat/completions"):
        for chunk in _chunks(turn, body):
            yield f"data: {json.dumps(chunk)}\n\n"
        if turn.ending == "complete":
            yield "data: [DONE]\n\n"
        return
    for number, event in enumerate(_events(turn, body)):
        yield f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"


def whole(turn: "Turn", path: str, body: Json) -> Json:
    said = "".join(turn.tokens)
    if path.endswith("/audio/transcriptions"):
        return {"text": said}
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": said or None, "refusal": "".join(turn.refusal) or None}
        if turn.reasoning:
            message[turn.reasoning_field] = "".join(turn.reasoning)
        choice = {"index": 0, "message": message, "finish_reason": turn.finish_reason}
        return _completion(body, "chat.completion", [choice])
    output = [_reasoning(turn)] if turn.reasoning else []
    output.append(_message("") | {"content": _parts(turn)})
    return _response(body) | _ending(turn) | {"output": output, "usage": _usage(1)}


def failure(path: str, body: Json) -> str:
    """How it says in the middle of a stream that it failed."""
    error = {"code": "server_error", "message": "The model is not well"}
    if path.endswith("/chat/completions"):
        return f"data: {json.dumps({'error': error})}\n\n"
    response = _response(body) | {"status": "failed", "error": error}
    event = {"type": "response.failed", "sequence_number": 99, "response": response}
    return f"event: response.failed\ndata: {json.dumps(event)}\n\n"


# --- Responses ------------------------------------------------------------------------------------


def _events(turn: "Turn", body: Json) -> Iterator[Json]:
    response = _response(body)
    yield {"type": "response.created", "response": response}
    output = []
    if turn.reasoning:
        output.append(_reasoning(turn))
        yield from _thinking(turn, output[0])
    if turn.tokens or turn.refusal or not (turn.tools or turn.reasoning):
        message = _message("")
        place = len(output)
        part = {"item_id": message["id"], "output_index": place, "content_index": 0}
        if turn.announced:
            opened = message | {"status": "in_progress", "content": []}
            yield {"type": "response.output_item.added", "output_index": place, "item": opened}
            if turn.tokens or not turn.refusal:
                yield part | {"type": "response.content_part.added", "part": _text("")}
        for token in turn.tokens:
            yield part | {"type": "response.output_text.delta", "delta": token, "logprobs": []}
        if turn.ending != "complete":
            return
        if text := "".join(turn.tokens):
            yield part | {"type": "response.output_text.done", "text": text, "logprobs": []}
            yield part | {"type": "response.content_part.done", "part": _text(text)}
        if turn.refusal:
            yield from _refusing(turn, part | {"content_index": 1 if turn.tokens else 0})
        output.append(message | {"content": _parts(turn)})
        yield {"type": "response.output_item.done", "output_index": place, "item": output[-1]}
    for name, arguments in turn.tools:
        place, call = len(output), _tool_call(name)
        yield {"type": "response.output_item.added", "output_index": place, "item": call}
        for piece in _pieces(arguments):
            delta = {"item_id": call["id"], "output_index": place, "delta": piece}
            yield {"type": "response.function_call_arguments.delta"} | delta
        output.append(call | {"arguments": json.dumps(arguments), "status": "completed"})
        yield {"type": "response.output_item.done", "output_index": place, "item": output[-1]}
    if turn.ending == "complete":
        done = _ending(turn) | {"output": output, "usage": _usage(len(turn.tokens))}
        yield {"type": f"response.{done['status']}", "response": response | done}


def _ending(turn: "Turn") -> Json:
    if turn.finish_reason == "stop":
        return {"status": "completed"}
    reason = "max_output_tokens" if turn.finish_reason == "length" else turn.finish_reason
    return {"status": "incomplete", "incomplete_details": {"reason": reason} if reason else None}


def _refusing(turn: "Turn", part: Json) -> Iterator[Json]:
    yield part | {"type": "response.content_part.added", "part": _declined("")}
    for token in turn.refusal:
        yield part | {"type": "response.refusal.delta", "delta": token}
    refusal = "".join(turn.refusal)
    yield part | {"type": "response.refusal.done", "refusal": refusal}
    yield part | {"type": "response.content_part.done", "part": _declined(refusal)}


def _thinking(turn: "Turn", item: Json) -> Iterator[Json]:
    place, whole = {"item_id": item["id"], "output_index": 0}, "".join(turn.reasoning)
    opened = item | {"summary": [], "content": None}
    yield {"type": "response.output_item.added", "output_index": 0, "item": opened}
    if turn.reasoning_field == "reasoning":
        kind, place = "response.reasoning_text", place | {"content_index": 0}
    else:
        kind, place = "response.reasoning_summary_text", place | {"summary_index": 0}
    for token in turn.reasoning:
        yield place | {"type": f"{kind}.delta", "delta": token}
    yield place | {"type": f"{kind}.done", "text": whole}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}


def _response(body: Json) -> Json:
    return {
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


def _message(text: str) -> Json:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_text(text)],
    }


def _reasoning(turn: "Turn") -> Json:
    whole = "".join(turn.reasoning)
    item = {"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": []}
    if turn.reasoning_field == "reasoning":
        return item | {"content": [{"type": "reasoning_text", "text": whole}]}
    return item | {"summary": [{"type": "summary_text", "text": whole}]}


def _parts(turn: "Turn") -> list[Json]:
    said = [_text("".join(turn.tokens))] if turn.tokens else []
    return said + ([_declined("".join(turn.refusal))] if turn.refusal else [])


def _declined(text: str) -> Json:
    return {"type": "refusal", "refusal": text}


def _text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _tool_call(name: str) -> Json:
    return {
        "id": f"fc_{uuid.uuid4().hex}",
        "type": "function_call",
        "call_id": f"call_{uuid.uuid4().hex}",
        "name": name,
        "arguments": "",
        "status": "in_progress",
    }


def _usage(words: int) -> Json:
    return {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": words,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1 + words,
    }


# --- Chat Completions -----------------------------------------------------------------------------


def _chunks(turn: "Turn", body: Json) -> Iterator[Json]:
    chunk = _completion(body, "chat.completion.chunk", [])

    def delta(reason: str | None = None, **content: Any) -> Json:
        return chunk | {"choices": [{"index": 0, "delta": content, "finish_reason": reason}]}

    yield delta(role="assistant", content="")
    for token in turn.reasoning:
        yield delta(**{turn.reasoning_field: token})
    for token in turn.tokens:
        yield delta(content=token)
    for token in turn.refusal:
        yield delta(refusal=token)
    for number, (name, arguments) in enumerate(turn.tools):
        place = 0 if turn.same_index else number
        function = {"name": name, "arguments": ""}
        call = {"index": place, "id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}
        yield delta(tool_calls=[call])
        for piece in _pieces(arguments):
            yield delta(tool_calls=[{"index": place, "function": {"arguments": piece}}])
    if turn.ending == "complete":
        calls = turn.tools and turn.finish_reason == "stop"
        yield delta("tool_calls" if calls else turn.finish_reason)


def _completion(body: Json, kind: str, choices: list[Json]) -> Json:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body["model"],
        "choices": choices,
    }


def _pieces(arguments: Json) -> list[str]:
    text = json.dumps(arguments)
    return [text[start : start + 4] for start in range(0, len(text), 4)]
