"""Turns speech into text, for ChatKit's dictation button."""

import logging

from chatkit.types import AudioInput

from support.conf import conf

logger = logging.getLogger(__name__)

MAX_AUDIO_BYTES = 10_000_000  # more than ten minutes of any browser's recording
MAX_BODY_BYTES = MAX_AUDIO_BYTES * 4 // 3 + 1_000  # the audio in base64, and the rest of the request

# The media types that browsers record. Providers find the type by the suffix of the file's name.
FILE_NAMES = {"audio/webm": "speech.webm", "audio/mp4": "speech.mp4", "audio/ogg": "speech.ogg"}


class AudioRefused(Exception):
    """The audio in the request cannot be used. The exception's message is for the caller."""


class TranscriptionFailed(Exception):
    """The model did not transcribe the audio."""


async def transcribe(audio: AudioInput) -> str:
    """Send the audio to the transcription model and return the text.

    Raises ``AudioRefused``, ``TranscriptionFailed``, and ``NotImplementedError`` if no model is configured.
    """
    if not conf.SUPPORT_TRANSCRIPTION_MODEL:
        raise NotImplementedError
    media_type = audio.media_type.strip().lower()
    if media_type not in FILE_NAMES:
        raise AudioRefused(f"params.mime_type is none of {', '.join(FILE_NAMES)}")
    if not audio.data:
        raise AudioRefused("params.audio_base64 is empty")
    # This import takes half a second. At the top of the module, it would slow down every manage.py command.
    import openai

    from support.assistant.provider import client

    try:
        transcription = await client.get_client().audio.transcriptions.create(
            model=conf.SUPPORT_TRANSCRIPTION_MODEL, file=(FILE_NAMES[media_type], audio.data, media_type)
        )
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        raise AudioRefused("params.audio_base64 is no audio that can be written down") from None
    except openai.OpenAIError as exc:
        logger.error("Dictated audio was not transcribed: %s", type(exc).__name__)
        raise TranscriptionFailed from None  # the text of ``exc`` may quote the user
    return transcription.text
