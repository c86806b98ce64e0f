"""What a token says, and what it looks like, in words that repeat nothing secret of it."""

import json
import re
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import jwt
from django.utils import timezone

from authn.conf import conf
from authn.jwt import keys, tokens

LONGEST_SHOWN = 120  # characters of a claim


def read(token: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Header and claims as they stand, for the words alone. Nothing of a token that is not whole."""
    if len(token) > tokens.MAX_LENGTH or not tokens.COMPACT.fullmatch(token):
        return {}, None
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}, None
    return decoded["header"], decoded["payload"]


def shown(header: dict[str, Any], payload: dict[str, Any] | None, knows_session: bool) -> dict[str, str]:
    claims = payload or {}
    said: dict[str, str] = {name: plain(header[name]) for name in ("alg", "kid", "typ") if name in header}
    said |= {name: plain(claims[name]) for name in ("iss", "aud", "sub", "email") if name in claims}
    if "sid" in claims:
        # By mistake, and in Better Auth's session cache, it is session.token: a login by itself.
        sid = plain(claims["sid"])
        said["sid"] = sid if knows_session else f"{sid[:4]}… ({len(sid)} characters)"
    return said | {name: _moment(claims[name]) for name in ("iat", "nbf", "exp") if name in claims}


def detail(reason: str, token: str, header: dict[str, Any], payload: dict[str, Any] | None) -> str:
    """What the reason comes to for this token."""
    claims = payload or {}
    match reason:
        case "malformed" if not token:
            return "There is nothing after the scheme."
        case "malformed" if "jwt" not in conf.BETTER_AUTH_CREDENTIALS and payload is not None:
            return "It is a JWT, and BETTER_AUTH_CREDENTIALS does not list jwt."
        case "malformed" if payload is None:
            return _likeness(token)
        case "type":
            return f"It says {plain(header.get('typ'))}."
        case "unknown_kid":
            return f"It names {plain(header.get('kid'))}; known are {', '.join(keys.known()) or 'none'}."
        case "algorithm":
            key = keys.find(str(header.get("kid"))) if conf.BETTER_AUTH_KEYS != "secret" else None
            return f"It names {plain(header.get('alg'))}, the key {key.algorithm if key else 'HS256'}."
        case "expired" | "not_yet_valid":
            name = "exp" if reason == "expired" else "iat"
            return (
                f"It says {name} {_moment(claims.get(name))}; it is {timezone.now():%Y-%m-%d %H:%M:%S} UTC."
            )
        case "issuer":
            return f"The token says {plain(claims.get('iss'))}, the settings want {conf.BETTER_AUTH_ISSUER}."
        case "audience":
            wanted = " or ".join(conf.BETTER_AUTH_AUDIENCE)
            return f"The token says {plain(claims.get('aud'))}, the settings want {wanted}."
        case "lifetime":
            cap = conf.BETTER_AUTH_MAX_TOKEN_LIFETIME.total_seconds()
            return (
                f"It lives from {_moment(claims.get('iat'))} to {_moment(claims.get('exp'))}; {cap:g} s "
                f"are allowed."
            )
        case "no_active_session" if "sid" not in claims:
            return "The token names none (no sid), so that any live one would do."
    return ""


LIKENESSES = [
    (r"[^=;\s]+=[^=;\s].*", "It looks like a cookie with its name: a session cookie is no JWT."),
    (
        r"[^.]+\.[A-Za-z0-9+/%]{43,}(=|%3D)",
        "It looks like Better Auth's signed session cookie, which is no JWT.",
    ),
    (r"[A-Za-z0-9]{32}", "It looks like Better Auth's session token, which is a login by itself and no JWT."),
    (r"[^.\s]+(\.[^.\s]*){4}", "It has five parts, as an encrypted token does."),
    (r".*[^\x20-\x7e].*", "It holds characters that no token has."),
    (r".*\s.*", "It has a space or a line break in it."),
    (r"[^.]*(\.[^.]*)?", "It has fewer than three parts: the end may be cut off."),
]


def _likeness(token: str) -> str:
    """What it seems to be, in words that repeat nothing of it."""
    return next((words for form, words in LIKENESSES if re.fullmatch(form, token, re.DOTALL)), "")


def plain(value: Any) -> str:
    """One line of printable characters, whatever a stranger wrote."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _moment(value: Any) -> str:
    if not is_number(value):
        return plain(value)
    try:
        moment = datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return plain(value)
    away = moment - timezone.now()
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({_length(away)})"


def _length(away: timedelta) -> str:
    seconds = abs(round(away.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [f"{days} d"] * (days > 0) + [f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0)
    length = " ".join(parts[:2]) or f"{seconds} s"
    return f"in {length}" if away > timedelta(0) else f"{length} ago"


def is_number(value: Any) -> bool:
    try:
        return isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
