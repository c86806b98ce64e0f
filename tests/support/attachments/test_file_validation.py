"""The type of a file is found from its bytes, its name and its announced type."""

from io import BytesIO
from itertools import product
from typing import Any

import pytest

from support import media_types
from support.files import detection, validation
from support.files.detection import text_encoding

WESTERN = "„Grüße“ Ørsted, 5 €\r\n"
EASTERN = "一二三、東京\r\n第一行 and a word\r\n"


@pytest.mark.parametrize("text", ["a", WESTERN, EASTERN, "\t\x1b[1m\f\v"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16le", "utf-16be"])
def test_unicode_is_detected_by_its_byte_order_mark_or_its_bytes(text: str, encoding: str) -> None:
    for mark, ending in product(["\ufeff", ""], ["", "\x1a", "\x1a\x1a"]):
        content = (mark + text + ending).encode(encoding)

        found = text_encoding(BytesIO(content))

        assert found == encoding
        assert detection.decode_text(content, found) == text


@pytest.mark.parametrize("ending", [b"", b"\x1a"])
def test_a_text_that_is_not_unicode_is_windows_1252(ending: bytes) -> None:
    content = WESTERN.encode("cp1252") + ending

    found = text_encoding(BytesIO(content))

    assert found == "windows-1252"
    assert detection.decode_text(content, found) == WESTERN


def test_a_text_in_utf16_may_end_with_a_single_byte() -> None:
    content = WESTERN.encode("utf-16") + b"\x1a"

    found = text_encoding(BytesIO(content))

    assert found == "utf-16le"
    assert detection.decode_text(content, found) == WESTERN


@pytest.mark.parametrize("character", ["é", "€", "💍"])
def test_a_character_may_span_two_chunks(monkeypatch: pytest.MonkeyPatch, character: str) -> None:
    monkeypatch.setattr(detection, "CHUNK_BYTES", 7)
    text = f"{character}a" * 20

    for encoding in ("utf-8", "utf-16le", "utf-16be"):
        assert text_encoding(BytesIO(text.encode(encoding))) == encoding


def test_ctrl_z_may_span_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "CHUNK_BYTES", 4)

    assert text_encoding(BytesIO(b"abc\x1a\x1a\x1a")) == "utf-8"
    assert text_encoding(BytesIO(b"abc\x1a\x1ad")) is None


@pytest.mark.parametrize(
    "content",
    [
        b"a\0b",
        b"a\x07",
        b"\xff\xfea",
        b"\xff\xfe\x00\xd8a\x00",
        b"\xef\xbb\xbf\xff",
        b"\x90caf\xe9",
        bytes(range(256)),
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0",
    ],
    ids=[
        "NUL",
        "bell",
        "half a pair of bytes",
        "half a surrogate pair",
        "no UTF-8",
        "no letter",
        "all",
        "ELF",
    ],
)
def test_a_file_with_control_characters_or_a_broken_encoding_is_not_a_text(content: bytes) -> None:
    assert text_encoding(BytesIO(content)) is None


@pytest.mark.parametrize(("before", "found"), [(0, True), (1019, True), (1020, False), (2000, False)])
def test_a_pdf_header_is_within_the_first_1024_bytes(before: int, found: bool) -> None:
    assert detection.has_pdf_header(BytesIO(b"x" * before + b"%PDF-1.7")) is found


@pytest.mark.parametrize(("plain", "others"), media_types.ALIASES.items())
def test_every_alias_of_a_type_means_this_type(plain: str, others: list[str]) -> None:
    for other in others:
        assert validation.validate_announced("a", f" {other.upper()}; charset=x", 1) == plain


@pytest.mark.parametrize(
    ("name", "mime_type"),
    [
        ("a.csv", "text/csv"),
        ("a.b.MD", "text/markdown"),
        ("a.txt", "text/plain"),
        ("a.pdf", "application/pdf"),
        ("a.jfif", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a", media_types.UNKNOWN),
        (".csv", media_types.UNKNOWN),
        ("a.unheard-of", media_types.UNKNOWN),
    ],
)
def test_the_name_decides_the_type_if_the_announced_type_is_unknown(name: str, mime_type: str) -> None:
    for unknown in media_types.UNKNOWN_TYPES:
        assert validation.validate_announced(name, unknown, 1) == mime_type


@pytest.mark.parametrize("suffix", ["html", "HTM", "xhtml", "svg", "xml", "js", "xls", "zip"])
def test_a_name_with_another_suffix_is_refused(suffix: str) -> None:
    for unknown in media_types.UNKNOWN_TYPES:
        with pytest.raises(validation.FileRefused, match="Files of this type are not accepted"):
            validation.validate_announced(f"a.{suffix}", unknown, 1)


def test_types_that_are_not_accepted_are_refused(settings: Any) -> None:
    settings.ATTACHMENT_TYPES = ["text/plain"]

    for name, mime_type in (("a.csv", ""), ("a.csv", "application/csv"), ("a.png", "image/x-png")):
        with pytest.raises(validation.FileRefused):
            validation.validate_announced(name, mime_type, 1)
    for content in (b"%PDF-1.7", b"\0"):
        with pytest.raises(validation.FileRefused):
            validation.validate(BytesIO(content), "a", "")
    assert validation.validate(BytesIO(b"a,b"), "a.csv", "text/plain") == ("text/plain", 3, "utf-8")
