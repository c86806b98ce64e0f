"""Finds out from its bytes whether a file is an image, a PDF or a text.

The rules do not depend on the machine. Equal bytes always give the same result.
"""

import codecs
import os
import re
from typing import IO

from PIL import Image

CHUNK_BYTES = 256 * 1024
# Pillow's name of each format, and the first bytes of its files.
IMAGE_FORMATS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "WEBP": b"RIFF"}
# Pillow may read from an image MAX_READS times, and one more time for each BYTES_PER_READ bytes of the file.
MAX_READS = 1000
BYTES_PER_READ = 256
# PDF readers accept other bytes before the header, up to this many (ISO 32000-1, annex H.3.4.1).
PDF_HEADER_WITHIN_BYTES = 1024

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16le",
    codecs.BOM_UTF16_BE: "utf-16be",
}
CONTROL_CHARACTER = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # except tab, line ends and ESC
CTRL_Z = "\x1a"  # DOS and some Windows programs end a text with it


def image_format(content: IO[bytes]) -> str | None:
    """Return the image's format, a key of ``IMAGE_FORMATS``, or ``None`` if the file is not an intact image.

    Checks the structure of the file. It does not decode the picture, because a small file can decode to
    gigabytes.
    """
    content.seek(0)
    start = content.read(8)
    for image_format, signature in IMAGE_FORMATS.items():
        if start.startswith(signature):
            return image_format if _is_image(content, image_format) else None
    return None


def has_pdf_header(content: IO[bytes]) -> bool:
    content.seek(0)
    return b"%PDF-" in content.read(PDF_HEADER_WITHIN_BYTES)


def text_encoding(content: IO[bytes]) -> str | None:
    """Return ``utf-8``, ``utf-16le``, ``utf-16be`` or ``windows-1252``. ``None``: the file is not a text.

    The first rule that fits gives the encoding:

    - A file with a byte order mark has the encoding of the mark.
    - A file with zero bytes is UTF-16.
    - A file that is valid UTF-8 is UTF-8.
    - Any other file is windows-1252.

    The file is not a text if its bytes are not valid in this encoding, or if it has control characters.
    """
    return next((encoding for encoding in _possible_encodings(content) if _is_text(content, encoding)), None)


def decode_text(content: bytes, encoding: str) -> str:
    """Return the text without its byte order mark, and without Ctrl-Z at its end."""
    if encoding.startswith("utf-16"):
        content = content[: len(content) // 2 * 2]  # some programs end UTF-16 with Ctrl-Z as one byte
    return content.decode(encoding, errors="replace").removeprefix("\ufeff").rstrip(CTRL_Z)


def _possible_encodings(content: IO[bytes]) -> list[str]:
    content.seek(0)
    start = content.read(CHUNK_BYTES)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return [encoding]
    # In UTF-16, one of the two bytes of Western letters, spaces and line ends is zero. In utf-16le, the
    # second byte is zero.
    even, odd = start[::2].count(0), start[1::2].count(0)
    if even or odd:
        return ["utf-16le" if odd > even else "utf-16be"]
    return ["utf-8", "windows-1252"]


def _is_text(content: IO[bytes], encoding: str) -> bool:
    """Whether the file is valid in this encoding and has no control characters, except Ctrl-Z at its end."""
    decoder = codecs.getincrementaldecoder(encoding)()
    content.seek(0)
    ending = ""
    try:
        while chunk := content.read(CHUNK_BYTES):
            text = ending + decoder.decode(chunk)
            before_ending = text.rstrip(CTRL_Z)
            ending = text[len(before_ending) :]
            if CONTROL_CHARACTER.search(before_ending):
                return False
        if encoding.startswith("utf-16") and decoder.getstate()[0] == CTRL_Z.encode():
            return True
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_image(content: IO[bytes], image_format: str) -> bool:
    try:
        # With ``formats``, Pillow uses only the parser of this format.
        with Image.open(_LimitedReads(content), formats=[image_format]) as image:  # type: ignore[arg-type]
            image.verify()
    except Exception:  # for a broken file, Pillow raises many kinds; Django's ImageField catches all, too
        return False
    return True


class _LimitedReads:
    """A file that Pillow can read only a limited number of times.

    Pillow reads an image segment by segment, in Python. An attacker can send ten megabytes of tiny segments.
    Without the limit, such a file would keep a processor busy for half a minute.
    """

    def __init__(self, content: IO[bytes]) -> None:
        self._content, self.seek, self.tell = content, content.seek, content.tell
        self._reads_left = MAX_READS + content.seek(0, os.SEEK_END) // BYTES_PER_READ
        content.seek(0)

    def read(self, size: int = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError("too many segments")
        return self._content.read(size)
