"""The explanation of one token, and functions that show the contents of a token safely."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import jwt
from django.utils import timezone

from authn.diagnosis.reasons import REASONS
from authn.jwt import signed
from authn.sessions import Identity

MAX_CLAIM_LENGTH = 120  # characters of a claim that are shown


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a token is accepted or refused.

    ``reason``: a key of ``REASONS``, or "ok". ``stopped_at``: the failed step of ``all_steps``, or "".
    ``status``: the HTTP status of a request with this token. ``is_genuine``: the signature is verified.
    ``contents``: the header and the claims to show, even those of a forged token.
    """

    reason: str
    stopped_at: str
    message: str
    remedy: str
    status: int
    is_genuine: bool = False
    contents: dict[str, str] = field(default_factory=dict)
    all_steps: dict[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.reason == "ok"

    def steps(self) -> Iterator[tuple[str, str]]:
        """Yields each step's name and its outcome: "passed", "failed" or "not reached"."""
        outcome = "passed"
        for step in self.all_steps:
            if step == self.stopped_at:
                yield step, "failed"
                outcome = "not reached"
            else:
                yield step, outcome

    def passed(self, step: str) -> bool:
        return dict(self.steps()).get(step) == "passed"


def acceptance(identity: Identity) -> str:
    session = f"session {identity.session.id}" if identity.session else "no session"
    return f"{identity.user.email} is accepted with {session}."


def failed_step(
    reason: str,
    token: str,
    payload: dict[str, Any] | None,
    has_key: bool,
    was_verified: bool,
    accepts_jwts: bool = True,
) -> str:
    """Returns the step at which the JWT failed. Some reasons occur at several steps."""
    if was_verified:
        return REASONS[reason].step or "user"
    if reason == "error":
        return "key"
    if reason != "malformed":
        return REASONS[reason].step
    if not has_key:
        is_compact = accepts_jwts and signed.COMPACT.fullmatch(token)
        return "header" if is_compact else "form"
    if payload is None:
        return "payload"
    dates = (payload.get(name) for name in ("iat", "nbf", "exp") if name in payload)
    return "claims" if all(map(is_number, dates)) else "times"


def decode_unverified(token: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Returns the header and the payload, only to show them. ``({}, None)`` if they cannot be decoded."""
    if len(token) > signed.MAX_TOKEN_LENGTH or not signed.COMPACT.fullmatch(token):
        return {}, None
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}, None
    return decoded["header"], decoded["payload"]


def shown_contents(header: dict[str, Any], payload: dict[str, Any] | None, show_sid: bool) -> dict[str, str]:
    claims = payload or {}
    contents: dict[str, str] = {
        name: printable(header[name]) for name in ("alg", "kid", "typ") if name in header
    }
    contents |= {
        name: printable(claims[name])
        for name in ("iss", "aud", "sub", "email", "client_id", "scope")
        if name in claims
    }
    if "sid" in claims:
        # Do not show a whole sid that is not verified as a session's id. It may be session.token, which is
        # enough to log in: Better Auth's session cache has it here, and definePayload may have it by mistake.
        sid = printable(claims["sid"])
        contents["sid"] = sid if show_sid else f"{sid[:4]}… ({len(sid)} characters)"
    return contents | {name: shown_date(claims[name]) for name in ("iat", "nbf", "exp") if name in claims}


def printable(value: Any) -> str:
    """Returns the value as one short line of printable characters. It may come from an attacker."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= MAX_CLAIM_LENGTH else f"{text[:MAX_CLAIM_LENGTH]}…"


def shown_date(value: Any) -> str:
    if not is_number(value):
        return printable(value)
    try:
        date = datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return printable(value)
    return f"{date:%Y-%m-%d %H:%M:%S} UTC ({_distance(date - timezone.now())})"


def _distance(from_now: timedelta) -> str:
    seconds = abs(round(from_now.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [f"{days} d"] * (days > 0) + [f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0)
    length = " ".join(parts[:2]) or f"{seconds} s"
    return f"in {length}" if from_now > timedelta(0) else f"{length} ago"


def is_number(value: Any) -> bool:
    try:
        return isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
