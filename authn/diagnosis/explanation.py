"""``manage.py betterauth explain``: why a token is accepted or refused, step by step.

The verdict is that of ``tokens.verify`` and ``sessions.resolve``, called as a request calls them. Only
the words are made here, and the token is read without being checked to put its claims into them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.views.decorators.debug import sensitive_variables

from authn import sessions
from authn.conf import conf
from authn.credentials import session_tokens
from authn.diagnosis import wording
from authn.diagnosis.reasons import REASONS
from authn.errors import Refused, TokenRefused
from authn.jwt import tokens

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
OF_A_SESSION_TOKEN = {
    "form": "a token and, where it is required, its signature",
    "signature": "is of our secret",
    "session": "has this token",
    "ban": "there is none",
    "alive": "the session has not expired",
}


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
    walk: dict[str, str] = field(default_factory=lambda: STEPS)

    @property
    def accepted(self) -> bool:
        return self.reason == "ok"

    def steps(self) -> Iterator[tuple[str, str]]:
        outcome = "passed"
        for step in self.walk:
            if step == self.stopped_at:
                yield step, "stopped"
                outcome = "not reached"
            else:
                yield step, outcome

    def passed(self, step: str) -> bool:
        return dict(self.steps()).get(step) == "passed"


@sensitive_variables()
def explain(given: str) -> Explanation:
    """``given``: a token as somebody pasted it, a scheme or a header's name before it included."""
    token = _bare(given)
    return _explain_session_token(token) if _is_session_token(token) else _explain_jwt(token)


@sensitive_variables()
def _explain_jwt(token: str) -> Explanation:
    claims = identity = payload = None
    try:
        if "jwt" not in conf.BETTER_AUTH_CREDENTIALS:
            raise TokenRefused("malformed")
        claims = tokens.verify(token)
        identity = sessions.resolve(claims)
    except Refused as refused:
        reason, status, has_key = refused.reason, refused.status_code, refused.algorithm is not None
        payload = getattr(refused, "verified_payload", None)
    except Exception:  # a table or column that is not there
        reason, status, has_key = "error", 500, False
    else:
        reason, status, has_key = "ok", 200, True
    header, payload = wording.read(token)
    shown = wording.shown(header, payload, knows_session=identity is not None)
    if identity is not None:
        message = f"{identity.user.email} is let in by session {identity.session.id}."
        return Explanation(reason, "", message, "", status, True, shown)
    step = _step(reason, token, payload, has_key, was_verified=claims is not None)
    detail = wording.detail(reason, token, header, payload)
    return Explanation(
        reason,
        step,
        f"{REASONS[reason].meaning}{f' {detail}' if detail else ''}",
        REASONS[reason].remedy,
        status,
        claims is not None or payload is not None,
        shown,
    )


def _is_session_token(token: str) -> bool:
    """By its dots, as ``authn.authentication`` tells the kinds apart, and if that kind is listed."""
    listed, dots = conf.BETTER_AUTH_CREDENTIALS, token.count(".")
    takes_signed = "cookie" in listed or "bearer" in listed
    takes_bare = "bearer" in listed and not conf.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE
    return bool(token) and ((dots == 1 and takes_signed) or (dots == 0 and takes_bare))


@sensitive_variables()
def _explain_session_token(token: str) -> Explanation:
    """Of it nothing is shown: it is a login, with its signature and without."""
    try:
        is_signed = "." in token
        known = session_tokens.verify(token) if is_signed else session_tokens.bare(token)
        identity = sessions.resolve_token(known, is_signed=is_signed)
    except Refused as refused:
        reason, status = refused.reason, refused.status_code
        is_over = reason == "no_active_session" and refused.session is not None
        # The session is looked up first here, and brings its user.
        at = {"": "form", "user": "session"}.get(REASONS[reason].step, REASONS[reason].step)
        step = "alive" if is_over else at
    except Exception:  # a table or column that is not there
        reason, status, step = "error", 500, "session"
    else:
        message = f"{identity.user.email} is let in by session {identity.session.id}."
        return Explanation("ok", "", message, "", 200, True, walk=OF_A_SESSION_TOKEN)
    meaning = REASONS[reason].meaning if reason != "malformed" else "This is no token of a session."
    is_genuine = step not in ("form", "signature")
    return Explanation(
        reason, step, meaning, REASONS[reason].remedy, status, is_genuine, walk=OF_A_SESSION_TOKEN
    )


def _bare(given: str) -> str:
    token = given.strip().removeprefix("Authorization:").strip().strip("\"'")
    if "cookie" in conf.BETTER_AUTH_CREDENTIALS:
        token = token.removeprefix("Cookie:").strip().removeprefix(f"{conf.BETTER_AUTH_COOKIE_NAME}=")
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
        was_read = "jwt" in conf.BETTER_AUTH_CREDENTIALS and tokens.COMPACT.fullmatch(token)
        return "header" if was_read else "form"
    if payload is None:
        return "payload"
    dates = (payload.get(name) for name in ("iat", "nbf", "exp") if name in payload)
    return "claims" if all(map(wording.is_number, dates)) else "times"
