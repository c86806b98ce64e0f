"""Attached files in Django's storage, ``STORAGES["attachments"]``."""

import logging
import re
import secrets
from collections.abc import Iterable
from contextlib import closing
from typing import IO, cast

from chatkit.types import Attachment
from django.core.files import File
from django.core.files.storage import Storage, storages

from support.files import detection

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
# The first part is one of 256 folders, so that sweep_attachments need not list all files at once.
NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")


def storage() -> Storage:
    return storages["attachments"]


def save(content: IO[bytes]) -> str:
    """Store a new file. Returns its name, which is random: no part of it comes from the user."""
    name = f"{secrets.token_hex(1)}/{secrets.token_hex(16)}"
    content.seek(0)
    return storage().save(name, File(content, name))


def open_file(name: str) -> IO[bytes]:
    """Raises ``FileNotFoundError``."""
    if not name:
        raise FileNotFoundError
    return cast(IO[bytes], storage().open(name))


def read(attachment: Attachment) -> bytes:
    """The whole file, for the model. Raises ``FileNotFoundError``."""
    with closing(open_file((attachment.metadata or {}).get("file", ""))) as file:
        return bytes(file.read())


def decode_text(attachment: Attachment, content: bytes) -> str:
    """The characters of an attached text, in whatever encoding its file is."""
    return detection.decode_text(content, (attachment.metadata or {}).get("charset", "utf-8"))


def has_content(name: str, content: IO[bytes]) -> bool:
    """Whether the file has exactly these bytes."""
    content.seek(0)
    try:
        with closing(open_file(name)) as file:
            while chunk := file.read(CHUNK_BYTES):
                if chunk != content.read(len(chunk)):
                    return False
    except FileNotFoundError:
        return False
    return not content.read(1)


def delete(names: Iterable[str]) -> int:
    """Delete the files. Returns how many it could delete.

    No row names the others any more, so ``sweep_attachments`` deletes them later.
    """
    deleted = 0
    for name in filter(None, names):
        try:
            storage().delete(name)
            deleted += 1
        except Exception:  # a storage may raise anything, and the rows are already deleted
            logger.exception("A file could not be deleted: %s", name)
    return deleted
