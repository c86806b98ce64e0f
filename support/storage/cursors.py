"""Cursors of pages. A cursor says where a page ended, even after its last row was deleted.

A cursor holds that row's primary key. It is encrypted, because keys tell how many rows all users have.
AES-SIV also authenticates the owner. So a cursor of somebody else fails in the same way as an invented one.
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
KEY_BYTES = 8  # of a bigint


def make(key: int, *scope: str) -> str:
    """``scope``: the list's owner, and its thread if it has one. Equal arguments give equal cursors."""
    sealed = _cipher(settings.SECRET_KEY).encrypt(key.to_bytes(KEY_BYTES), [json.dumps(scope).encode()])
    return PREFIX + base64.urlsafe_b64encode(sealed).decode()


def read(cursor: str, *scope: str) -> int | None:
    """The primary key; ``None`` if it is not a cursor of this list. It may then be a row's id."""
    if not cursor.startswith(PREFIX):
        return None
    try:
        sealed = base64.urlsafe_b64decode(cursor.removeprefix(PREFIX))
    except (binascii.Error, ValueError):
        return None
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        with suppress(InvalidTag, ValueError):  # ValueError: too short
            return int.from_bytes(_cipher(secret).decrypt(sealed, [json.dumps(scope).encode()]))
    return None


@cache
def _cipher(secret: str) -> AESSIV:
    return AESSIV(salted_hmac(SALT, "key", secret=secret, algorithm="sha512").digest())
