"""Finds out the media type of an uploaded file, and decides whether the file is accepted."""

import os
from pathlib import PurePosixPath
from typing import IO, NamedTuple

from support import media_types
from support.conf import conf
from support.files import detection
from support.media_types import IMAGES, PDF, TEXTS, UNKNOWN


class FileRefused(Exception):
    """The file is not accepted. The exception's message is for the caller."""


class FileTooLarge(FileRefused):
    def __str__(self) -> str:
        return f"The file is larger than {conf.ATTACHMENT_MAX_BYTES / 1_000_000:g} MB"


class QuotaExceeded(FileRefused):
    def __str__(self) -> str:
        quota = f"{conf.ATTACHMENT_BYTES_PER_USER / 1_000_000:g} MB"
        return f"There is no room: all your files may have {quota} together. Delete a conversation with files"


class ValidatedFile(NamedTuple):
    """``size``: in bytes. ``charset``: the encoding of a text, from ``detection.text_encoding``."""

    mime_type: str
    size: int
    charset: str | None = None


def validate_announced(name: str, mime_type: str, size: int) -> str:
    """Check a file before its upload. Raise ``FileRefused`` if we would refuse it with any bytes.

    ``size``: in bytes. Returns one of ``ATTACHMENT_TYPES``, or ``UNKNOWN`` if only the bytes can show the
    type.
    """
    announced = _announced_type(name, mime_type)
    if announced != UNKNOWN:
        _require_accepted(announced)
    if size > conf.ATTACHMENT_MAX_BYTES:
        raise FileTooLarge
    if size < 1:
        raise FileRefused("The file is empty")
    return announced


def validate(content: IO[bytes], name: str, mime_type: str) -> ValidatedFile:
    """Find the type of a file from its bytes.

    Raises ``FileRefused`` if we do not accept the type, or if the bytes do not fit the announced type.

    The bytes decide which format an image has, even if another image format was announced. All kinds of text
    look alike, so the name and the announced type decide which kind of text it is.
    """
    size = content.seek(0, os.SEEK_END)
    announced = validate_announced(name, mime_type, size)
    found, charset = "", None
    if announced in (UNKNOWN, *IMAGES):
        found = _image_type(content)
    if not found and announced in (UNKNOWN, PDF) and detection.has_pdf_header(content):
        found = PDF
    if not found and announced in (UNKNOWN, *TEXTS):
        charset = detection.text_encoding(content)
        text_type = "text/plain" if announced == UNKNOWN else announced
        found = text_type if charset else ""
    if not found and announced != UNKNOWN:
        raise FileRefused(f"The file is not {announced}, or is damaged")
    _require_accepted(found)
    return ValidatedFile(found, size, charset)


def _announced_type(name: str, mime_type: str) -> str:
    """Return the type that the client's media type and the file's suffix announce, or ``UNKNOWN``."""
    announced = media_types.canonical(mime_type.partition(";")[0].strip().lower())
    suffix = PurePosixPath(name).suffix.lower()
    by_name = media_types.canonical(media_types.TYPE_OF_SUFFIX.get(suffix, UNKNOWN))
    if announced in media_types.UNKNOWN_TYPES:
        return by_name
    # The bytes of all kinds of text look alike, so the suffix of the name is the better hint.
    name_decides = announced in TEXTS and by_name in TEXTS and by_name in conf.ATTACHMENT_TYPES
    return by_name if name_decides else announced


def _image_type(content: IO[bytes]) -> str:
    image_format = detection.image_format(content)
    return next((mime_type for mime_type, its_format in IMAGES.items() if its_format == image_format), "")


def _require_accepted(mime_type: str) -> None:
    if mime_type not in conf.ATTACHMENT_TYPES:
        accepted = ", ".join(media_types.label(each) for each in conf.ATTACHMENT_TYPES)
        raise FileRefused(f"Files of this type are not accepted, only {accepted}")
