"""Which bodies are ChatKit requests. An error names the wrong field and quotes nothing of the body."""

import functools
import json
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any, get_args

import pydantic
import pytest
from asgiref.sync import async_to_sync
from chatkit import server as sdk
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import ChatKitReq, ThreadMetadata
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from support.chat import protocol
from support.chat.protocol import parse
from support.storage.store import Store

INPUT = {"content": [{"type": "input_text", "text": "Hi"}], "attachments": [], "inference_options": {}}
TAG = {"type": "input_tag", "id": "t1", "text": "order", "data": {"n": 1}, "group": "g", "interactive": True}
RICH_INPUT = {
    "content": [INPUT["content"][0], TAG],
    "attachments": ["atc_1"],
    "quoted_text": "",
    "inference_options": {"tool_choice": {"id": "search"}, "model": "small"},
}
ANSWERS = {"status": "answered", "answers": {"q1": {"values": ["Low"]}}}
ACTION = {"type": "rebook", "payload": {"flight": "X1"}}
ITEM_IDS = {"thread_id": "thr_1", "item_id": "msg_1"}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("threads.create", {"input": INPUT}),
    ("threads.create", {"input": RICH_INPUT}),
    ("threads.create", {"input": INPUT | {"content": []}}),
    ("threads.add_user_message", {"thread_id": "thr_1", "input": INPUT}),
    ("threads.add_client_tool_output", {"thread_id": "thr_1", "result": {"ok": True}}),
    ("threads.add_client_tool_output", {"thread_id": "thr_1", "result": None}),
    ("threads.add_structured_input", ITEM_IDS | {"input": ANSWERS}),
    ("threads.retry_after_item", ITEM_IDS),
    ("threads.custom_action", ITEM_IDS | {"action": ACTION}),
    ("threads.custom_action", {"thread_id": "thr_1", "action": {"type": "toggle"}}),
    ("threads.get_by_id", {"thread_id": "thr_1"}),
    ("threads.list", {}),
    ("threads.list", {"limit": 5, "order": "asc", "after": "thr_1"}),
    ("items.list", {"thread_id": "thr_1"}),
    ("items.list", {"thread_id": "thr_1", "limit": 5, "order": "asc", "after": "msg_1"}),
    ("items.feedback", {"thread_id": "thr_1", "item_ids": ["msg_1"], "kind": "positive"}),
    ("items.feedback", {"thread_id": "thr_1", "item_ids": [], "kind": "negative"}),
    ("attachments.create", {"name": "a.pdf", "size": 10, "mime_type": "application/pdf"}),
    ("attachments.delete", {"attachment_id": "atc_1"}),
    ("threads.update", {"thread_id": "thr_1", "title": "New"}),
    ("threads.update", {"thread_id": "thr_1", "title": ""}),
    ("threads.delete", {"thread_id": "thr_1"}),
    ("input.transcribe", {"audio_base64": "AAAA", "mime_type": "audio/webm;codecs=opus"}),
    ("input.transcribe", {"audio_base64": "AAAA\r\nAAAA\n", "mime_type": "audio/mp4"}),
    ("threads.sync_custom_action", ITEM_IDS | {"action": {"type": "toggle"}}),
]
KINDS = sorted({kind for kind, _ in REQUESTS})


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all parts of a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_of(part, (*path, key))


def replace(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of the value that has ``new`` at the path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replace(value[path[0]], path[1:], new)
    return copy


ALL_PATHS = [
    ({"type": kind, "params": params, "metadata": {"page": "/"}}, path)
    for kind, params in REQUESTS
    for path in paths_of({"type": kind, "params": params, "metadata": {"page": "/"}})
]


def error_of(body: Any) -> str:
    """The error's message for a body that is not accepted."""
    with pytest.raises(ParseError) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.status_code == 400
    # Pydantic's error quotes the body.
    assert "pydantic" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value.detail)


# --- What is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "params"), REQUESTS)
def test_every_request_of_the_protocol_is_accepted(kind: str, params: dict[str, Any]) -> None:
    for more in ({}, {"metadata": {"page": "/"}}, {"metadata": {}, "not_known": [1]}):
        request = parse(json.dumps({"type": kind, "params": params} | more).encode())

        assert request.type == kind
        sent = request.params.model_dump(mode="json", exclude_unset=True)
        assert sent == params


def test_requests_are_accepted_and_parsed_as_the_sdk_does() -> None:
    sdk_parser = pydantic.TypeAdapter(ChatKitReq)
    for (request, path), value in product(ALL_PATHS, ["20", "yes", False, 1, 2.0, 0.5, None]):
        body = json.dumps(replace(request, path, value)).encode()
        try:
            read_by_the_sdk = sdk_parser.validate_json(body)
        except pydantic.ValidationError:
            error_of(body)
            continue
        if path[-1:] != ("audio_base64",):  # the SDK ignores characters that are not base64
            assert parse(body) == read_by_the_sdk


def test_there_is_an_example_of_every_operation_of_the_sdk() -> None:
    known = get_args(get_args(ChatKitReq)[0])

    assert sorted(request.model_fields["type"].default for request in known) == KINDS


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is not valid JSON"),
        (b"hello", "The request body is not valid JSON"),
        (b'{"type": "threads.list"', "The request body is not valid JSON"),
        (b"\xff\xfe", "The request body is not valid JSON"),
        (b'\xef\xbb\xbf{"type": "threads.list", "params": {}}', "The request body is not valid JSON"),
        ('{"type": "threads.list", "params": {}}'.encode("utf-16"), "The request body is not valid JSON"),
        (b"{}", "The request needs a type"),
        (b'{"type": null}', "The request has an unknown type"),
        (b'{"type": ["threads.list"]}', "The request has an unknown type"),
        (b'{"type": "threads.explode", "params": {}}', "The request has an unknown type"),
        (b"[]", "The request is not valid"),
        (b"null", "The request is not valid"),
        (b'"threads.list"', "The request is not valid"),
        (b'{"type": "threads.list"}', "params is missing"),
        (b'{"type": "threads.list", "params": []}', "params is not valid"),
        (b'{"type": "threads.list", "params": {}, "metadata": 1}', "metadata is not valid"),
    ],
)
def test_a_body_that_is_not_a_request_is_refused(body: bytes, message: str) -> None:
    assert error_of(body) == message


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("threads.create", {}, "params.input is missing"),
        ("threads.create", {"input": {}}, "params.input.content is missing"),
        ("threads.create", {"input": INPUT | {"attachments": None}}, "params.input.attachments is not valid"),
        (
            "threads.create",
            {"input": INPUT | {"attachments": [1]}},
            "params.input.attachments.0 is not valid",
        ),
        (
            "threads.create",
            {"input": INPUT | {"inference_options": 1}},
            "params.input.inference_options is not valid",
        ),
        (
            "threads.create",
            {"input": INPUT | {"content": [{"text": "Hi"}]}},
            "params.input.content.0 needs a type",
        ),
        (
            "threads.create",
            {"input": INPUT | {"content": [INPUT["content"][0], {"type": "input_video"}]}},
            "params.input.content.1 has an unknown type",
        ),
        (
            "threads.create",
            {"input": INPUT | {"content": [{"type": "input_text", "text": 5}]}},
            "params.input.content.0.text is not valid",
        ),
        (
            "threads.create",
            {"input": INPUT | {"content": [TAG | {"data": []}]}},
            "params.input.content.0.data is not valid",
        ),
        ("threads.add_user_message", {"input": INPUT}, "params.thread_id is missing"),
        ("threads.get_by_id", {"thread_id": 7}, "params.thread_id is not valid"),
        ("threads.list", {"order": "newest"}, "params.order is not one of the allowed values"),
        ("threads.list", {"limit": "many"}, "params.limit is not valid"),
        ("threads.list", {"limit": "20 or so"}, "params.limit is not valid"),
        ("items.feedback", ITEM_IDS | {"item_ids": []}, "params.kind is missing"),
        (
            "threads.add_structured_input",
            ITEM_IDS | {"input": {"answers": {"q1": {"values": "Low"}}}},
            "params.input.answers.values is not valid",
        ),
        ("threads.custom_action", ITEM_IDS | {"action": {"type": 5}}, "params.action.type is not valid"),
        ("threads.custom_action", ITEM_IDS, "params.action is missing"),
        (
            "attachments.create",
            {"name": "a", "size": "big", "mime_type": "x/y"},
            "params.size is not valid",
        ),
    ],
)
def test_the_error_names_the_wrong_field(kind: str, params: dict[str, Any], message: str) -> None:
    assert error_of({"type": kind, "params": params}) == message


# Our messages have none of these characters. A message with one of them would quote the request.
JUNK = st.text("ΩЖ中💍<>&\\\"'\n\x1b", min_size=1)
CHOICES = {"type", "order", "status", "kind"}  # fields with a fixed list of values
NOT_JSON = st.sampled_from(["{%s", "[%s]", '"%s', "%s"])


@given(
    position=st.sampled_from(ALL_PATHS), junk=JUNK, shape=st.sampled_from(["text", "list", "key", "extra"])
)
def test_no_error_quotes_the_request(position: tuple[Any, tuple[Any, ...]], junk: str, shape: str) -> None:
    request, path = position
    values = {"text": junk, "list": [junk], "key": {junk: {junk: [junk]}}, "extra": {"type": junk, "id": 5}}
    body = json.dumps(replace(request, path, values[shape])).encode()

    with suppress(pydantic.ValidationError):
        protocol.CHATKIT_REQUEST.validate_json(body)
        return  # some fields accept any text

    assert not set(junk) & set(error_of(body))


@given(junk=JUNK, frame=NOT_JSON)
def test_no_error_quotes_a_body_that_is_not_json(junk: str, frame: str) -> None:
    message = error_of((frame % junk).encode())

    assert message in ("The request body is not valid JSON", "The request is not valid")


@given(body=st.binary())
def test_random_bytes_raise_nothing_but_a_parse_error(body: bytes) -> None:
    error_of(body)


# --- NUL, surrogates, depth and size --------------------------------------------------------------


def test_a_nul_character_is_refused_in_every_field() -> None:
    for request, path in ALL_PATHS:
        value = functools.reduce(lambda part, key: part[key], path, request)
        if isinstance(value, dict):
            with_nul: Any = value | {"key\0": {"values": []}}
        elif isinstance(value, str) and path[-1] not in CHOICES:
            with_nul = value + "\0"
        else:
            continue

        message = error_of(replace(request, path, with_nul))

        assert message == "The request contains a NUL character", path


@pytest.mark.parametrize("text", [r"\u0000", r"a\\u0000b", r"C:\u0000", "\\" * 7 + "u0000"])
def test_the_escape_sequence_of_nul_as_plain_text_is_accepted(text: str) -> None:
    request = parse(json.dumps({"type": "threads.update", "params": ITEM_IDS | {"title": text}}).encode())

    assert request.params.title == text


def test_a_raw_nul_byte_is_not_valid_json() -> None:
    body = b'{"type": "threads.update", "params": {"thread_id": "t", "title": "a\0b"}}'

    assert error_of(body) == "The request body is not valid JSON"


@pytest.mark.parametrize(
    "half", [rb"\ud83d", rb"\ude00", rb"\ud83d\ud83d", rb"\udc8d\ud83d", b"\xed\xa0\xbd"]
)
def test_half_a_surrogate_pair_is_refused(half: bytes) -> None:
    body = b'{"type": "threads.update", "params": {"thread_id": "t", "title": "' + half + b'"}}'

    assert error_of(body) == "The request body is not valid JSON"


RESULT = '{"type": "threads.add_client_tool_output", "params": {"thread_id": "t", "result": %s}}'


@pytest.mark.parametrize(
    "deep",
    [
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        "[" * 10_000,
        '["\\u0000",' + "[" * 10_000 + "]" * 10_000 + "]",
        "9" * 100_000,
        "-" + "9" * 5_000,
        '["\\u0000",' + "9" * 5_000 + "]",
        "1" + "e9" * 2,
    ],
    ids=["lists", "objects", "open", "and a NUL", "number", "negative", "number and a NUL", "two exponents"],
)
def test_extreme_depth_and_extreme_numbers_are_refused(deep: str) -> None:
    message = error_of((RESULT % deep).encode())

    assert message == "The request body is not valid JSON"


@pytest.mark.parametrize("limit", ["1e999", "-1e999", "NaN", "Infinity", "0.5", "9" * 5_000, "true " + "1"])
def test_a_limit_that_is_not_an_integer_is_refused(limit: str) -> None:
    message = error_of(b'{"type": "threads.list", "params": {"limit": %s}}' % limit.encode())

    assert message in ("params.limit is not valid", "The request body is not valid JSON")


# --- The cached parser ----------------------------------------------------------------------------


class Context:
    user_id = "ada"


class Shop(ChatKitServer[Context]):
    """A team's server that overrides ``process``, to read the request first."""

    seen = 0

    async def process(
        self, request: str | bytes | bytearray, context: Context
    ) -> StreamingResult | NonStreamingResult:
        self.seen += 1
        return await super().process(request, context)

    def respond(self, thread: ThreadMetadata, input_user_message: Any, context: Context) -> Any:
        raise NotImplementedError


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The types that type adapters are built for from now on. The SDK's module is as after its import."""
    kinds: list[Any] = []
    build = pydantic.TypeAdapter.__init__

    def count(self: Any, kind: Any, **options: Any) -> None:
        kinds.append(kind)
        build(self, kind, **options)

    monkeypatch.setattr(pydantic.TypeAdapter, "__init__", count)
    monkeypatch.setattr(sdk, "TypeAdapter", pydantic.TypeAdapter)
    return kinds


FEEDBACK = {"type": "items.feedback", "params": {"thread_id": "t", "item_ids": [], "kind": "positive"}}


def ask(shop: Shop) -> bytes:
    result = async_to_sync(shop.process)(json.dumps(FEEDBACK).encode(), Context())
    assert isinstance(result, NonStreamingResult)
    return result.json


def test_the_sdk_builds_a_parser_for_every_request(built: list[Any]) -> None:
    """If this test fails, ``cache_request_parser`` is not needed any more."""
    for _ in range(2):
        ask(Shop(Store()))

    assert built == [ChatKitReq, ChatKitReq]


def test_with_the_cached_parser_no_request_builds_one(built: list[Any]) -> None:
    protocol.cache_request_parser()
    protocol.cache_request_parser()
    shop = Shop(Store())

    assert [ask(shop), ask(shop)] == [b"{}", b"{}"]

    assert (shop.seen, built) == (2, [])


def test_the_cached_parser_still_refuses_a_wrong_request(built: list[Any]) -> None:
    protocol.cache_request_parser()

    with pytest.raises(pydantic.ValidationError):
        async_to_sync(Shop(Store()).process)(b"{}", Context())


def test_other_uses_of_type_adapter_in_the_sdks_module_still_work(built: list[Any]) -> None:
    protocol.cache_request_parser()

    numbers = sdk.TypeAdapter(list[int])
    threads = sdk.TypeAdapter[ThreadMetadata](ThreadMetadata)
    frozen = sdk.TypeAdapter(dict[str, int], config=pydantic.ConfigDict(strict=True))

    assert numbers.validate_json("[1, 2]") == [1, 2]
    assert threads.validate_python({"id": "t", "created_at": "2026-01-01T00:00:00"}).id == "t"
    with pytest.raises(pydantic.ValidationError):
        frozen.validate_python({"a": "1"})
    assert len(built) == 3


def test_an_sdk_without_a_type_adapter_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sdk, "TypeAdapter")

    protocol.cache_request_parser()

    assert not hasattr(sdk, "TypeAdapter")
