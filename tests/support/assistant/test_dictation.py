"""Dictation: a model turns audio into text. Only these requests may have a longer body."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.assistant import dictation
from tests.fixtures.accounts.people import Person
from tests.fixtures.model.server import Model
from tests.fixtures.model.turn import Turn
from tests.fixtures.servers.api import SPEECH, Api, http, operation, transcribe

USUAL_LIMIT = 1_000_000


@pytest.fixture(scope="module")
def dictation_api(start_assistant: Callable[..., Any]) -> Iterator[Api]:
    """A server with a transcription model."""
    with start_assistant(SUPPORT_TRANSCRIPTION_MODEL="transcription-model") as running:
        yield running


@pytest.mark.parametrize(
    ("mime_type", "name"),
    [
        ("audio/webm;codecs=opus", b"speech.webm"),
        ("audio/mp4", b"speech.mp4"),
        ("audio/ogg; codecs=opus", b"speech.ogg"),
        ("AUDIO/WEBM", b"speech.webm"),
    ],
)
def test_dictated_audio_is_transcribed(
    dictation_api: Api, person: Person, model: Model, mime_type: str, name: bytes
) -> None:
    response = dictation_api.post(transcribe(mime_type=mime_type), person.token())

    assert (response.status_code, response.json()) == (200, {"text": "What was said"})
    (call,) = model.transcriptions
    assert SPEECH in call.raw
    assert b'filename="%s"' % name in call.raw
    assert b"transcription-model" in call.raw
    assert call.headers["authorization"] == "Bearer the-key-of-the-model"


def test_without_a_transcription_model_dictation_is_a_501(
    assistant: Api, person: Person, model: Model
) -> None:
    response = assistant.post(transcribe(), person.token())

    assert response.status_code == 501
    assert response.json()["error"] == "This server does not support that operation"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (transcribe(mime_type="text/html"), "params.mime_type is none of audio/webm, audio/mp4, audio/ogg"),
        (transcribe(mime_type=""), "params.mime_type is none of audio/webm, audio/mp4, audio/ogg"),
        (transcribe("A"), "params.audio_base64 is not valid"),
        (transcribe("AAAA!!!!"), "params.audio_base64 is not valid"),
        (transcribe("ÄÄÄÄ"), "params.audio_base64 is not valid"),
        (transcribe(""), "params.audio_base64 is empty"),
    ],
)
def test_audio_of_a_wrong_type_or_without_bytes_is_a_400(
    dictation_api: Api, person: Person, model: Model, body: dict[str, Any], message: str
) -> None:
    response = dictation_api.post(body, person.token())

    assert (response.status_code, response.json()["message"]) == (400, message)
    assert model.transcriptions == []


@pytest.mark.parametrize("status", [400, 422])
def test_audio_that_the_model_refuses_is_a_400(
    dictation_api: Api, person: Person, model: Model, status: int
) -> None:
    model.transcript = Turn(status=status)

    response = dictation_api.post(transcribe(), person.token())

    assert response.status_code == 400
    assert response.json()["message"] == "params.audio_base64 is no audio that can be written down"


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_failing_transcription_model_is_a_503_without_details(
    dictation_api: Api, person: Person, model: Model, status: int
) -> None:
    model.transcript = Turn(status=status)

    response = dictation_api.post(transcribe(), person.token())

    assert response.status_code == 503
    assert response.json()["error"] == "Service temporarily unavailable"
    assert response.headers["Retry-After"]
    assert len(model.transcriptions) == 1
    assert "The model is not well" not in dictation_api.log.read_text()


# --- The length of a body -------------------------------------------------------------------------


def test_a_recording_over_the_usual_limit_is_accepted(
    dictation_api: Api, person: Person, model: Model
) -> None:
    response = dictation_api.post(transcribe(b"x" * 2 * USUAL_LIMIT), person.token())

    assert response.status_code == 200


def test_a_recording_that_is_too_long_is_a_413(dictation_api: Api, person: Person, model: Model) -> None:
    response = dictation_api.post(transcribe(b"x" * (dictation.MAX_AUDIO_BYTES + 2_000)), person.token())

    assert response.status_code == 413
    assert str(dictation.MAX_BODY_BYTES) in response.json()["error"]


def test_other_operations_have_the_usual_limit(dictation_api: Api, person: Person, model: Model) -> None:
    action = {"type": "long", "payload": "x" * USUAL_LIMIT}
    long = operation("threads.custom_action", thread_id="thr_1", action=action)

    response = dictation_api.post(long, person.token())

    assert response.status_code == 413
    assert str(USUAL_LIMIT) in response.json()["error"]


def test_without_a_transcription_model_dictation_has_the_usual_limit(
    assistant: Api, person: Person, model: Model
) -> None:
    response = assistant.post(transcribe(b"x" * USUAL_LIMIT), person.token())

    assert response.status_code == 413


def test_a_chunked_body_has_the_usual_limit(assistant: Api, person: Person, model: Model) -> None:
    body = b'{"type": "threads.update", "params": {"thread_id": "t", "title": "%s"}}' % (b"x" * USUAL_LIMIT)
    headers = {"Authorization": f"Bearer {person.token()}"}

    response = http.post(assistant.url, content=iter([body]), headers=headers)

    assert response.request.headers["Transfer-Encoding"] == "chunked"
    assert response.status_code == 413
