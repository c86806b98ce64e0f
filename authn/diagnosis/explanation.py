"""``manage.py betterauth explain``: why a token is accepted or refused, step by step.

The same functions as in a request accept or refuse the token. This module only explains their result. It also
decodes the token without verifying it, to show the claims. Its texts repeat no secret part of a token.
"""

import re
from typing import Any

from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn import sessions
from authn.conf import conf
from authn.credentials import session_tokens
from authn.diagnosis.explained import (
    Explanation,
    acceptance,
    decode_unverified,
    failed_step,
    printable,
    shown_contents,
    shown_date,
)
from authn.diagnosis.oauth_explanation import explain_access_token
from authn.diagnosis.reasons import REASONS
from authn.errors import Refused, TokenRefused
from authn.jwt import keys, tokens

ACCESS_TOKENS = "oauth-provider"  # the plugin in BETTER_AUTH_PLUGINS

# What each step requires. The steps are in the order in which ``authn.jwt.tokens`` and ``authn.sessions``
# check a JWT. A test compares the two orders.
JWT_STEPS = {
    "form": "must be three parts of base64url, with at most 8192 characters",
    "header": "must be the header of a JWT, and name a key",
    "key": "must be one of Better Auth's keys",
    "algorithm": "must be the key's algorithm",
    "signature": "must be made with this key",
    "payload": "must have the required claims",
    "times": "the token must have begun, and must not have expired",
    "issuer": "must be our Better Auth",
    "audience": "must be this backend",
    "claims": "must have the right types",
    "lifetime": "must be short enough, and begin while the key was in use",
    "sid": "must name the session, if that is required",
    "user": "must have the token's email and id",
    "ban": "the user must not be banned",
    "session": "must be active",
}
SESSION_TOKEN_STEPS = {
    "form": "must be a token with its signature, if one is required",
    "signature": "must be made with our secret",
    "session": "must have this token",
    "ban": "the user must not be banned",
    "expiry": "the session must not have expired",
}


@sensitive_variables()
def explain(given: str) -> Explanation:
    """Explain a JWT, a session token or an OAuth access token.

    ``given``: the token as somebody pasted it. The scheme or the name of the header may stand before it.
    """
    token = _without_header_name(given)
    if ACCESS_TOKENS in conf.BETTER_AUTH_PLUGINS and (explained := explain_access_token(token)):
        return explained
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
    except Exception:  # such as a missing table or column
        reason, status, has_key = "error", 500, False
    else:
        reason, status, has_key = "ok", 200, True
    header, payload = decode_unverified(token)
    contents = shown_contents(header, payload, show_sid=identity is not None)
    if identity is not None:
        message = acceptance(identity)
        if ACCESS_TOKENS in conf.BETTER_AUTH_PLUGINS:
            message += " It is for the chat. An MCP endpoint refuses it (not_an_access_token) by default."
        return Explanation(reason, "", message, "", status, True, contents, JWT_STEPS)
    accepts_jwts = "jwt" in conf.BETTER_AUTH_CREDENTIALS
    step = failed_step(reason, token, payload, has_key, claims is not None, accepts_jwts)
    message = f"{REASONS[reason].meaning} {_detail(reason, token, header, payload)}".strip()
    is_genuine = claims is not None or payload is not None
    remedy = REASONS[reason].remedy
    return Explanation(reason, step, message, remedy, status, is_genuine, contents, JWT_STEPS)


def _is_session_token(token: str) -> bool:
    """Whether the token has as many dots as a session token, and this kind of credential is enabled.

    ``authn.authentication`` decides in the same way.
    """
    enabled, dots = conf.BETTER_AUTH_CREDENTIALS, token.count(".")
    accepts_signed = "cookie" in enabled or "bearer" in enabled
    accepts_unsigned = "bearer" in enabled and not conf.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE
    return bool(token) and ((dots == 1 and accepts_signed) or (dots == 0 and accepts_unsigned))


@sensitive_variables()
def _explain_session_token(token: str) -> Explanation:
    """Explain a session token. The explanation shows no part of it: the token may be enough to log in."""
    try:
        is_signed = "." in token
        verified = session_tokens.verify(token) if is_signed else session_tokens.check_unsigned(token)
        identity = sessions.resolve_token(verified, is_signed=is_signed)
    except Refused as refused:
        reason, status = refused.reason, refused.status_code
        has_expired = reason == "no_active_session" and refused.session is not None
        # Unlike for a JWT, the session is looked up first, together with its user.
        step = {"": "form", "user": "session"}.get(REASONS[reason].step, REASONS[reason].step)
        step = "expiry" if has_expired else step
    except Exception:  # such as a missing table or column
        reason, status, step = "error", 500, "session"
    else:
        message = acceptance(identity)
        return Explanation("ok", "", message, "", 200, True, all_steps=SESSION_TOKEN_STEPS)
    meaning = REASONS[reason].meaning if reason != "malformed" else "This is not a session token."
    is_genuine = step not in ("form", "signature")
    return Explanation(
        reason, step, meaning, REASONS[reason].remedy, status, is_genuine, all_steps=SESSION_TOKEN_STEPS
    )


def _without_header_name(given: str) -> str:
    token = given.strip().removeprefix("Authorization:").strip().strip("\"'")
    if "cookie" in conf.BETTER_AUTH_CREDENTIALS:
        token = token.removeprefix("Cookie:").strip().removeprefix(f"{conf.BETTER_AUTH_COOKIE_NAME}=")
    scheme, _, rest = token.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else token


def _detail(reason: str, token: str, header: dict[str, Any], payload: dict[str, Any] | None) -> str:
    """Returns a sentence about what the reason means for this token, or ""."""
    claims = payload or {}
    match reason:
        case "malformed" if not token:
            return "There is nothing after the scheme."
        case "malformed" if "jwt" not in conf.BETTER_AUTH_CREDENTIALS and payload is not None:
            return "It is a JWT, and BETTER_AUTH_CREDENTIALS does not list jwt."
        case "malformed" if payload is None:
            return next((text for form, text in LOOKALIKES if re.fullmatch(form, token, re.DOTALL)), "")
        case "type":
            return f"Its typ is {printable(header.get('typ'))}."
        case "unknown_kid":
            known = ", ".join(keys.known_ids()) or "none"
            return f"Its kid is {printable(header.get('kid'))}. Known key ids: {known}."
        case "algorithm":
            key = keys.find(str(header.get("kid"))) if conf.BETTER_AUTH_KEYS != "secret" else None
            expected = key.algorithm if key else "HS256"
            return f"Its alg is {printable(header.get('alg'))}, and its key's algorithm is {expected}."
        case "expired" | "not_yet_valid":
            name = "exp" if reason == "expired" else "iat"
            now = f"{timezone.now():%Y-%m-%d %H:%M:%S} UTC"
            return f"Its {name} is {shown_date(claims.get(name))}, and now is {now}."
        case "issuer":
            return f"Its iss is {printable(claims.get('iss'))}, and {conf.BETTER_AUTH_ISSUER} is expected."
        case "audience":
            expected = " or ".join(conf.BETTER_AUTH_AUDIENCE)
            return f"Its aud is {printable(claims.get('aud'))}, and {expected} is expected."
        case "lifetime":
            limit = conf.BETTER_AUTH_MAX_TOKEN_LIFETIME.total_seconds()
            begin, end = shown_date(claims.get("iat")), shown_date(claims.get("exp"))
            return f"It is valid from {begin} to {end}. The limit is {limit:g} s."
        case "no_active_session" if "sid" not in claims:
            return "The token names no session (sid), so any active session of the user would do."
    return ""


# Patterns of other things that somebody may paste in place of a JWT, and what to say about each.
LOOKALIKES = [
    (r"[^=;\s]+=[^=;\s].*", "It looks like a cookie with its name. A session cookie is not a JWT."),
    (
        r"[^.]+\.[A-Za-z0-9+/%]{43,}(=|%3D)",
        "It looks like Better Auth's signed session cookie, and that is not a JWT.",
    ),
    (
        r"[A-Za-z0-9]{32}",
        "It looks like Better Auth's session token, and that is not a JWT. Keep it secret: it is a login.",
    ),
    (r"[^.\s]+(\.[^.\s]*){4}", "It has five parts, as an encrypted token has."),
    (r".*[^\x20-\x7e].*", "It has characters that no token has."),
    (r".*\s.*", "It has a space or a line break in it."),
    (r"[^.]*(\.[^.]*)?", "It has fewer than three parts. The end may be cut off."),
]
