"""``manage.py betterauth explain``: why a token is accepted or refused, step by step.

The verdict is that of ``tokens.verify`` and ``sessions.resolve``, called as a request calls them. Only
the words are made here, and the token is read without being checked to put its claims into them.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import jwt
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn import keys, sessions, tokens
from authn.conf import conf
from authn.errors import Refused
from authn.reasons import REASONS

# In the order in which they are taken; a test holds ``tokens`` and ``sessions`` to it.
STEPS = {
    "form": "three parts of base64url, not too long",
    "header": "of a kind that is taken, names its key",
    "key": "is among those of Better Auth",
    "algorithm": "is the key's own",
    "signature": "is of that key",
    "payload": "has the claims that are needed",
    "times": "begun and not expired",
    "issuer": "is our Better Auth",
    "audience": "is us",
    "claims": "are of their kinds",
    "lifetime": "is not too long, and began while the key was in use",
    "sid": "names its session, where that is required",
    "user": "has the token's address and id",
    "ban": "there is none",
    "session": "is alive",
}
LONGEST_SHOWN = 120  # characters of a claim


@dataclass(frozen=True, slots=True)
class Explanation:
    """``shown``: what the token says, whoever wrote it; ``is_genuine``: its signature is good."""

    reason: str
    stopped_at: str
    message: str
    remedy: str
    status: int
    is_genuine: bool = False
    shown: dict[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.reason == "ok"

    def steps(self) -> Iterator[tuple[str, str]]:
        outcome = "passed"
        for step in STEPS:
            if step == self.stopped_at:
                yield step, "stopped"
                outcome = "not reached"
            else:
                yield step, outcome

    def passed(self, step: str) -> bool:
        return dict(self.steps())[step] == "passed"


@sensitive_variables()
def explain(given: str) -> Explanation:
    """``given``: a token as somebody pasted it, a scheme or a header's name before it included."""
    token = _bare(given)
    claims = identity = None
    try:
        claims = tokens.verify(token)
        identity = sessions.resolve(claims)
    except Refused as refused:
        reason, status, has_key = refused.reason, refused.status_code, refused.algorithm is not None
    except Exception:  # a table or column that is not there
        reason, status, has_key = "error", 500, False
    else:
        reason, status, has_key = "ok", 200, True
    header, payload = _read(token)
    shown = _shown(header, payload, knows_session=identity is not None)
    if identity is not None:
        message = f"{identity.user.email} is let in by session {identity.session.id}."
        return Explanation(reason, "", message, "", status, True, shown)
    step = _step(reason, token, payload, has_key, was_verified=claims is not None)
    detail = _detail(reason, token, header, payload)
    return Explanation(
        reason,
        step,
        f"{REASONS[reason].meaning}{f' {detail}' if detail else ''}",
        REASONS[reason].remedy,
        status,
        list(STEPS).index(step) > list(STEPS).index("signature"),
        shown,
    )


def _bare(given: str) -> str:
    token = given.strip().removeprefix("Authorization:").strip().strip("\"'")
    scheme, _, rest = token.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else token


def _step(reason: str, token: str, payload: dict[str, Any] | None, has_key: bool, was_verified: bool) -> str:
    """Where a reason that has several places was met."""
    if was_verified:
        return REASONS[reason].step or "user"
    if reason == "error":
        return "key"
    if reason != "malformed":
        return REASONS[reason].step
    if not has_key:
        return "header" if tokens.COMPACT.fullmatch(token) else "form"
    if payload is None:
        return "payload"
    dates = (payload.get(name) for name in ("iat", "nbf", "exp") if name in payload)
    return "claims" if all(map(_is_number, dates)) else "times"


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Header and claims as they stand, for the words alone. Nothing of a token that is not whole."""
    if len(token) > tokens.MAX_LENGTH or not tokens.COMPACT.fullmatch(token):
        return {}, None
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}, None
    return decoded["header"], decoded["payload"]


def _shown(header: dict[str, Any], payload: dict[str, Any] | None, knows_session: bool) -> dict[str, str]:
    claims = payload or {}
    shown: dict[str, str] = {name: plain(header[name]) for name in ("alg", "kid", "typ") if name in header}
    shown |= {name: plain(claims[name]) for name in ("iss", "aud", "sub", "email") if name in claims}
    if "sid" in claims:
        # By mistake, and in Better Auth's session cache, it is session.token: a login by itself.
        sid = plain(claims["sid"])
        shown["sid"] = sid if knows_session else f"{sid[:4]}… ({len(sid)} characters)"
    return shown | {name: _moment(claims[name]) for name in ("iat", "nbf", "exp") if name in claims}


def _detail(reason: str, token: str, header: dict[str, Any], payload: dict[str, Any] | None) -> str:
    """What the reason comes to for this token."""
    claims = payload or {}
    match reason:
        case "malformed" if not token:
            return "There is nothing after the scheme."
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
    (r"\S+(\.\S+){4}", "It has five parts, as an encrypted token does."),
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
    if not _is_number(value):
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


def _is_number(value: Any) -> bool:
    try:
        return isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
