"""Makes and reads the cursors of pages.

A cursor is the encrypted primary key of the last row of a page. It stays valid when that row is deleted. A
plain primary key would tell a user how many rows all users have. The encryption (AES-SIV) also authenticates
the owner: a cursor of another user is as invalid as an invented cursor.
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
    """Return a cursor. Equal arguments give equal cursors.

    ``key``: a primary key. ``scope``: the owner of the list, and for a list of items also the thread.
    """
    encrypted = _cipher(settings.SECRET_KEY).encrypt(key.to_bytes(KEY_BYTES), [json.dumps(scope).encode()])
    return PREFIX + base64.urlsafe_b64encode(encrypted).decode()


def decode(cursor: str, *scope: str) -> int | None:
    """Return the primary key, or ``None`` if the text is not a cursor of the list with this scope."""
    if not cursor.startswith(PREFIX):
        return None
    try:
        encrypted = base64.urlsafe_b64decode(cursor.removeprefix(PREFIX))
    except (binascii.Error, ValueError):
        return None
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        with suppress(InvalidTag, ValueError):  # ValueError: the text is too short
            return int.from_bytes(_cipher(secret).decrypt(encrypted, [json.dumps(scope).encode()]))
    return None


@cache
def _cipher(secret: str) -> AESSIV:
    return AESSIV(salted_hmac(SALT, "key", secret=secret, algorithm="sha512").digest())
