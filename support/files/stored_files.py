"""Saves, reads and deletes attached files in Django's storage ``STORAGES["attachments"]``."""

import logging
import re
import secrets
from collections.abc import Iterable
from contextlib import closing
from functools import cache
from typing import IO, cast

from chatkit.types import Attachment
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages

from support.conf import conf
from support.files import detection

logger = logging.getLogger(__name__)

# The name of a file. It begins with one of 256 folders, so that sweep_attachments can list a part of the
# files.
NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")


def storage() -> Storage:
    """Return ``STORAGES["attachments"]``. By default, files in ATTACHMENT_DIRECTORY."""
    if "attachments" in storages.backends:
        return storages["attachments"]
    return _files_in(conf.ATTACHMENT_DIRECTORY)


@cache
def _files_in(directory: str) -> Storage:
    # Attachments are private: no other user of the machine may read them.
    return FileSystemStorage(directory, file_permissions_mode=0o600, directory_permissions_mode=0o700)


def save(content: IO[bytes]) -> str:
    """Store a new file and return its name. The name is random, and no part of it comes from the user."""
    name = f"{secrets.token_hex(1)}/{secrets.token_hex(16)}"
    content.seek(0)
    return storage().save(name, File(content, name))


def open_file(name: str) -> IO[bytes]:
    """Open the file for reading. Raises ``FileNotFoundError``."""
    if not name:
        raise FileNotFoundError
    return cast(IO[bytes], storage().open(name))


def read(attachment: Attachment) -> bytes:
    """Return all bytes of an attachment's file. Raises ``FileNotFoundError``."""
    with closing(open_file((attachment.metadata or {}).get("file", ""))) as file:
        return bytes(file.read())


def decode_text(attachment: Attachment, content: bytes) -> str:
    """Return the text in ``content``, the bytes of an attachment. Its metadata names the encoding."""
    return detection.decode_text(content, (attachment.metadata or {}).get("charset", "utf-8"))


def has_content(name: str, content: IO[bytes]) -> bool:
    """Whether the file has exactly these bytes."""
    content.seek(0)
    try:
        with closing(open_file(name)) as file:
            while chunk := file.read(detection.CHUNK_BYTES):
                if chunk != content.read(len(chunk)):
                    return False
    except FileNotFoundError:
        return False
    return not content.read(1)


def delete(names: Iterable[str]) -> int:
    """Delete the files. Returns the number of files that it could delete.

    ``sweep_attachments`` deletes the other files later, because no row names them any more.
    """
    deleted = 0
    for name in filter(None, names):
        try:
            storage().delete(name)
            deleted += 1
        except Exception:  # a storage may raise any exception, and the rows are already deleted
            logger.exception("A file could not be deleted: %s", name)
    return deleted
