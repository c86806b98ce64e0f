"""The bytes of attachments: what they really are, and where Django's storage keeps them."""

import codecs
import logging
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import closing
from typing import IO, cast

from chatkit.types import Attachment
from django.core.files import File
from django.core.files.storage import Storage, storages
from PIL import Image

from support.conf import conf

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

# In 256 folders, so that sweeping never has to list all files at once.
NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")
CHUNK = 256 * 1024
MAX_READS, BYTES_A_READ = 1000, 256  # of an image: so many, and one more for so many bytes of it
NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # control characters, but for tab, line ends, ESC


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


def check_claim(mime_type: str, size: int) -> str:
    """Refuse what is announced if we would refuse it anyway; return the type in its plain form."""
    plain = mime_type.partition(";")[0].strip().lower()
    if plain not in conf.ATTACHMENT_TYPES:
        accepted = ", ".join(
            SPOKEN.get(each, each.rpartition("/")[2].upper()) for each in conf.ATTACHMENT_TYPES
        )
        raise Refused(f"Files of this type are not accepted, only {accepted}")
    if size > conf.ATTACHMENT_MAX_BYTES:
        raise TooLarge
    if size < 1:
        raise Refused("The file is empty")
    return plain


def check(content: IO[bytes], claimed: str) -> tuple[str, int]:
    """The type and the size that the bytes have; ``Refused`` when they are not what was claimed."""
    content.seek(0, os.SEEK_END)
    size = content.tell()
    mime_type = check_claim(claimed, size)
    content.seek(0)
    if mime_type in TEXTS:
        is_as_claimed = _is_text(content)
    elif mime_type == PDF:
        is_as_claimed = content.read(5) == b"%PDF-"
    else:
        is_as_claimed = _is_image(content, IMAGES[mime_type])
    if not is_as_claimed:
        raise Refused(f"The file is not {mime_type}, or is damaged")
    return mime_type, size


def keep(content: IO[bytes]) -> str:
    """Store it under a name of ours, of which the user's has no part."""
    name = f"{secrets.token_hex(1)}/{secrets.token_hex(16)}"
    content.seek(0)
    return storage().save(name, File(content, name))


def read(attachment: Attachment) -> bytes:
    """All of it, for the model. Raises ``FileNotFoundError``."""
    with closing(open_file((attachment.metadata or {}).get("file", ""))) as file:
        return bytes(file.read())


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


def _is_image(content: IO[bytes], image_format: str) -> bool:
    """By its structure. The picture is not decoded: a small file can be an image of gigabytes."""
    try:
        # No other format's parser gets to see the bytes.
        with Image.open(_FewReads(content), formats=[image_format]) as image:  # type: ignore[arg-type]
            image.verify()
    except Exception:  # of as many kinds as there are ways to be broken; Django's ImageField does the same
        return False
    return True


class _FewReads:
    """A file for Pillow, which reads segment by segment, in Python: made of nothing but tiny ones, ten
    megabytes keep a processor busy for half a minute."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content, self.seek, self.tell = content, content.seek, content.tell
        self._left = MAX_READS + content.seek(0, os.SEEK_END) // BYTES_A_READ
        content.seek(0)

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise OSError("too many segments")
        return self._content.read(size)


def _is_text(content: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := content.read(CHUNK):
            decoder.decode(chunk)
            if NO_TEXT.search(chunk):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
