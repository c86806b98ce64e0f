"""Page cursors. A cursor stays valid when the last row of its page is deleted.

A cursor is the primary key of that row, encrypted: a plain key would tell how many rows all users have. The
encryption (AES-SIV) also authenticates the owner. So another user's cursor fails as an invented one does.
"""

import base64
import binascii
import json
from contextlib import suppress
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from django.conf import settings
from django.utils.crypto import salted_hmac

SALT = "support.cursors"
PREFIX = "cur_"
KEY_BYTES = 8  # a primary key is a bigint


def encode(key: int, *scope: str) -> str:
    """``key``: a primary key. ``scope``: the owner of the list, and the thread of a list of items.

    Equal arguments give equal cursors.
    """
    encrypted = _cipher(settings.SECRET_KEY).encrypt(key.to_bytes(KEY_BYTES), [json.dumps(scope).encode()])
    return PREFIX + base64.urlsafe_b64encode(encrypted).decode()


def decode(cursor: str, *scope: str) -> int | None:
    """The primary key, or ``None`` if this is not a cursor of this list."""
    if not cursor.startswith(PREFIX):
        return None
    try:
        encrypted = base64.urlsafe_b64decode(cursor.removeprefix(PREFIX))
    except (binascii.Error, ValueError):
        return None
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        with suppress(InvalidTag, ValueError):  # ValueError: too short
            return int.from_bytes(_cipher(secret).decrypt(encrypted, [json.dumps(scope).encode()]))
    return None


@cache
def _cipher(secret: str) -> AESSIV:
    return AESSIV(salted_hmac(SALT, "key", secret=secret, algorithm="sha512").digest())
