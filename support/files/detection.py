"""Finds out from its bytes what a file is. The rules are fixed: equal bytes give equal answers."""

import codecs
import os
import re
from typing import IO

from PIL import Image

CHUNK = 256 * 1024
# Pillow's names of the formats, and how their files begin.
IMAGE_FORMATS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "WEBP": b"RIFF"}
MAX_READS, BYTES_A_READ = 1000, 256  # of an image: MAX_READS, and one more for each BYTES_A_READ of it
PDF_HEADER_WITHIN = 1024  # bytes: PDF readers accept other bytes before it (ISO 32000-1, annex H.3.4.1)

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16le",
    codecs.BOM_UTF16_BE: "utf-16be",
}
CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # except tab, line ends and ESC
CTRL_Z = "\x1a"  # with which DOS and some Windows programs end a text


def image_format(content: IO[bytes]) -> str | None:
    """One of ``IMAGE_FORMATS``, found from the file's structure.

    The picture is not decoded: a small file can be an image of gigabytes.
    """
    content.seek(0)
    start = content.read(8)
    for image_format, signature in IMAGE_FORMATS.items():
        if start.startswith(signature):
            return image_format if _is_image(content, image_format) else None
    return None


def has_pdf_header(content: IO[bytes]) -> bool:
    content.seek(0)
    return b"%PDF-" in content.read(PDF_HEADER_WITHIN)


def text_encoding(content: IO[bytes]) -> str | None:
    """``utf-8``, ``utf-16le``, ``utf-16be`` or ``windows-1252``; ``None`` if it is not text.

    A byte order mark decides. Without one, a file with zero bytes can only be UTF-16; any other is UTF-8 if
    that is valid, and else Windows' Western encoding. A text has no control characters.
    """
    return next((encoding for encoding in _possible(content) if _is_text(content, encoding)), None)


def as_text(content: bytes, encoding: str) -> str:
    """The text, without a byte order mark at its start or a Ctrl-Z at its end."""
    if encoding.startswith("utf-16"):
        content = content[: len(content) // 2 * 2]  # some programs end even UTF-16 with a Ctrl-Z of one byte
    return content.decode(encoding, errors="replace").removeprefix("\ufeff").rstrip(CTRL_Z)


def _possible(content: IO[bytes]) -> list[str]:
    content.seek(0)
    start = content.read(CHUNK)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return [encoding]
    # In UTF-16, Western letters, spaces and line ends have a zero byte. In LE it is the second byte.
    even, odd = start[::2].count(0), start[1::2].count(0)
    if even or odd:
        return ["utf-16le" if odd > even else "utf-16be"]
    return ["utf-8", "windows-1252"]


def _is_text(content: IO[bytes], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    content.seek(0)
    ending = ""
    try:
        while chunk := content.read(CHUNK):
            text = ending + decoder.decode(chunk)
            before_ending = text.rstrip(CTRL_Z)
            ending = text[len(before_ending) :]
            if CONTROL.search(before_ending):
                return False
        if encoding.startswith("utf-16") and decoder.getstate()[0] == CTRL_Z.encode():
            return True
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_image(content: IO[bytes], image_format: str) -> bool:
    try:
        # No other format's parser gets to see the bytes.
        with Image.open(_LimitedReads(content), formats=[image_format]) as image:  # type: ignore[arg-type]
            image.verify()
    except Exception:  # a broken file can raise almost anything; Django's ImageField does the same
        return False
    return True


class _LimitedReads:
    """A file for Pillow with a limited number of reads.

    Pillow reads an image segment by segment, in Python. Ten megabytes of tiny segments would keep a
    processor busy for half a minute.
    """

    def __init__(self, content: IO[bytes]) -> None:
        self._content, self.seek, self.tell = content, content.seek, content.tell
        self._left = MAX_READS + content.seek(0, os.SEEK_END) // BYTES_A_READ
        content.seek(0)

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise OSError("too many segments")
        return self._content.read(size)
