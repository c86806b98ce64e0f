"""Attached files: which of them are accepted, and where Django's storage keeps them."""

import logging
import mimetypes
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import closing
from pathlib import PurePosixPath
from typing import IO, NamedTuple, cast

from chatkit.types import Attachment
from django.core.files import File
from django.core.files.storage import Storage, storages

from support.conf import conf
from support.files import detection

logger = logging.getLogger(__name__)

# Pillow's names.
IMAGES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}
PDF = "application/pdf"
TEXTS = ("text/plain", "text/csv", "text/markdown")
# No HTML and no SVG, which can hold scripts. Nor anything else that we could not tell by its bytes.
TYPES = (*IMAGES, PDF, *TEXTS)
SPOKEN = {
    "image/webp": "WebP",
    "text/plain": "plain text",
    "text/markdown": "Markdown",
}  # others: PNG of image/png

# Other names of these types, as programs, browsers and the Windows registry use them.
OTHER_NAMES = {
    "image/png": ["image/x-png", "image/apng", "image/x-citrix-png"],
    "image/jpeg": ["image/jpg", "image/pjpeg", "image/jpe", "image/jfif", "image/x-citrix-jpeg"],
    "image/gif": ["image/x-gif", "image/x-citrix-gif"],
    "image/webp": ["image/x-webp"],
    PDF: ["application/x-pdf", "application/acrobat", "application/vnd.pdf", "text/pdf", "text/x-pdf"],
    "text/plain": ["text/x-log", "text/tab-separated-values", "application/txt"],
    "text/csv": [
        *("application/csv", "application/x-csv", "text/x-csv"),
        *("text/comma-separated-values", "text/x-comma-separated-values"),
    ],
    "text/markdown": ["text/x-markdown", "application/markdown", "application/x-markdown", "text/md"],
}
PLAIN_NAMES = {other: plain for plain, others in OTHER_NAMES.items() for other in others}
# These types say nothing about the file, so its name decides. Windows with Excel announces a .csv as an Excel
# file.
UNKNOWN = "application/octet-stream"
UNKNOWN_TYPES = {
    *("", UNKNOWN, "binary/octet-stream", "application/unknown", "application/x-unknown", "unknown/unknown"),
    *("application/download", "application/x-download", "application/force-download"),
    *("application/vnd.ms-excel", "application/excel", "application/x-excel", "application/x-msexcel"),
}
# Python's own list: the operating system's list differs between machines.
SUFFIXES = mimetypes.MimeTypes(filenames=()).types_map[True] | {
    ".jfif": "image/jpeg",
    ".webp": "image/webp",
    ".csv": "text/csv",
    ".log": "text/plain",
    **dict.fromkeys([".md", ".markdown", ".mdown", ".mkd"], "text/markdown"),
    **dict.fromkeys([".xhtml", ".xht"], "application/xhtml+xml"),
}

# In 256 folders, so that sweeping never has to list all files at once.
NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")
CHUNK = detection.CHUNK


class Checked(NamedTuple):
    """``size``: in bytes. ``charset``: of a text, as in ``support.files.detection.text_encoding``."""

    mime_type: str
    size: int
    charset: str | None = None


class Refused(Exception):
    """The message says what is wrong with a file, to whoever sent it."""


class TooLarge(Refused):
    def __str__(self) -> str:
        return f"The file is larger than {conf.ATTACHMENT_MAX_BYTES / 1_000_000:g} MB"


class NoRoom(Refused):
    def __str__(self) -> str:
        room = f"{conf.ATTACHMENT_BYTES_PER_USER / 1_000_000:g} MB"
        return (
            f"There is no room for this file: all of yours may take {room}. Delete a conversation with files"
        )


def check_claim(name: str, mime_type: str, size: int) -> str:
    """Refuse an announced file that would be refused after its upload.

    Returns the type in its plain form, one of ``TYPES``; ``UNKNOWN`` if only the bytes can tell it.
    """
    announced = _announced(name, mime_type)
    if announced != UNKNOWN:
        _require_accepted(announced)
    if size > conf.ATTACHMENT_MAX_BYTES:
        raise TooLarge
    if size < 1:
        raise Refused("The file is empty")
    return announced


def check(content: IO[bytes], name: str, mime_type: str) -> Checked:
    """Find the type of a file from its bytes. Raises ``Refused`` if the type is not accepted, or is of
    another kind than was announced.

    The bytes tell which kind of image it is. Only the name tells which kind of text it is.
    """
    size = content.seek(0, os.SEEK_END)
    announced = check_claim(name, mime_type, size)
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
        raise Refused(f"The file is not {announced}, or is damaged")
    _require_accepted(found)
    return Checked(found, size, charset)


def _image_type(content: IO[bytes]) -> str:
    image_format = detection.image_format(content)
    return next((mime_type for mime_type, its_format in IMAGES.items() if its_format == image_format), "")


def _announced(name: str, mime_type: str) -> str:
    plain = _plain(mime_type.partition(";")[0].strip().lower())
    by_name = _plain(SUFFIXES.get(PurePosixPath(name).suffix.lower(), UNKNOWN))
    if plain in UNKNOWN_TYPES:
        return by_name
    is_told_by_name = plain in TEXTS and by_name in TEXTS and by_name in conf.ATTACHMENT_TYPES
    return by_name if is_told_by_name else plain


def _plain(mime_type: str) -> str:
    return PLAIN_NAMES.get(mime_type, mime_type)


def _require_accepted(mime_type: str) -> None:
    if mime_type not in conf.ATTACHMENT_TYPES:
        accepted = ", ".join(
            SPOKEN.get(each, each.rpartition("/")[2].upper()) for each in conf.ATTACHMENT_TYPES
        )
        raise Refused(f"Files of this type are not accepted, only {accepted}")


def keep(content: IO[bytes]) -> str:
    """Store it under a name of ours, of which the user's has no part."""
    name = f"{secrets.token_hex(1)}/{secrets.token_hex(16)}"
    content.seek(0)
    return storage().save(name, File(content, name))


def read(attachment: Attachment) -> bytes:
    """All of it, for the model. Raises ``FileNotFoundError``."""
    with closing(open_file((attachment.metadata or {}).get("file", ""))) as file:
        return bytes(file.read())


def as_text(attachment: Attachment, content: bytes) -> str:
    """The characters of an attached text, whatever its encoding is."""
    return detection.as_text(content, (attachment.metadata or {}).get("charset", "utf-8"))


def open_file(name: str) -> IO[bytes]:
    """Raises ``FileNotFoundError``."""
    if not name:
        raise FileNotFoundError
    return cast(IO[bytes], storage().open(name))


def holds(name: str, content: IO[bytes]) -> bool:
    """Whether the file has exactly these bytes."""
    content.seek(0)
    try:
        with closing(open_file(name)) as file:
            while chunk := file.read(CHUNK):
                if chunk != content.read(len(chunk)):
                    return False
    except FileNotFoundError:
        return False
    return not content.read(1)


def delete(names: Iterable[str]) -> int:
    """How many it could delete. The others are left to ``sweep_attachments``: no row names them any more."""
    deleted = 0
    for name in filter(None, names):
        try:
            storage().delete(name)
            deleted += 1
        except Exception:  # a storage is anybody's code, and what has been promised is done already
            logger.exception("A file could not be deleted: %s", name)
    return deleted


def storage() -> Storage:
    return storages["attachments"]
