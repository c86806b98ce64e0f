"""Why an OAuth access token is accepted or refused, step by step.

A token does not say to which of our endpoints a client sends it. So it is explained for the endpoint that it
names itself.
"""

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.diagnosis.explained import (
    Explanation,
    acceptance,
    decode_unverified,
    failed_step,
    printable,
    shown_contents,
    shown_date,
)
from authn.diagnosis.oauth_reasons import REMEDIES
from authn.diagnosis.reasons import REASONS
from authn.errors import Refused, TokenRefused
from authn.jwt import access_tokens
from authn.oauth import opaque_tokens, resolving

if TYPE_CHECKING:
    from authn.models import OAuthAccessToken

# In the order in which ``authn.jwt.access_tokens`` and ``authn.oauth.resolving`` check a JWT.
ACCESS_TOKEN_STEPS = {
    "form": "must be three parts of base64url, with at most 8192 characters",
    "header": "must be the header of an access token (at+jwt), and name a key",
    "key": "must be one of Better Auth's keys",
    "algorithm": "must be the key's algorithm",
    "signature": "must be made with this key",
    "payload": "must have the required claims",
    "times": "the token must have begun, and must not have expired",
    "issuer": "must be our Better Auth with its base path",
    "audience": "must be the URL of one endpoint, and at most Better Auth's userinfo beside it",
    "claims": "must have the right types",
    "lifetime": "must be short enough, and begin while the key was in use",
    "user": "must have the token's id",
    "ban": "the user must not be banned",
    "client": "must be enabled in Better Auth",
    "consent": "the user must still allow the client",
    "session": "must be the one in which the user allowed the client, and active",
}
OPAQUE_TOKEN_STEPS = {
    "token": "must be in Better Auth's table, and must not be revoked",
    "times": "must not have expired",
    "audience": "must be the URL of one endpoint",
    "claims": "must be for a user",
    **{name: ACCESS_TOKEN_STEPS[name] for name in ("user", "ban", "client", "consent", "session")},
}


@sensitive_variables()
def explain_access_token(token: str) -> Explanation | None:
    """Returns ``None`` if the token is of another kind."""
    header, payload = decode_unverified(token)
    if header.get("typ") in access_tokens.TYPES:
        return _explain_jwt(token, header, payload)
    if not opaque_tokens.is_opaque(token):
        return None
    try:
        return _explain_opaque(opaque_tokens.look_up(token))
    except TokenRefused:  # a session token has this form too
        return None
    except Refused as refused:
        return _refused(refused.reason, "token", refused.status_code)
    except Exception:  # such as a missing table or column
        return _refused("error", "token", 500)


@sensitive_variables()
def _explain_jwt(token: str, header: dict[str, Any], payload: dict[str, Any] | None) -> Explanation:
    resource = _resource((payload or {}).get("aud"))
    identity = access_token = verified_payload = None
    try:
        access_token = access_tokens.verify(token, resource)
        identity = resolving.resolve(access_token)
    except Refused as refused:
        reason, status, has_key = refused.reason, refused.status_code, refused.algorithm is not None
        verified_payload = getattr(refused, "verified_payload", None)
    except Exception:  # such as a missing table or column
        reason, status, has_key = "error", 500, False
    contents = shown_contents(header, payload, show_sid=identity is not None)
    if identity is not None and access_token is not None:
        message = _accepted(acceptance(identity), access_token.client_id, resource)
        return Explanation("ok", "", message, "", 200, True, contents, ACCESS_TOKEN_STEPS)
    step = failed_step(reason, token, verified_payload, has_key, was_verified=access_token is not None)
    is_genuine = access_token is not None or verified_payload is not None
    return _refused(reason, step, status, _detail(reason, payload or {}), is_genuine, contents)


def _explain_opaque(row: "OAuthAccessToken") -> Explanation:
    """Explain an opaque token. The explanation shows no part of it: the token may be enough to act."""
    resource = _resource(row.resources)
    contents = {
        "aud": printable(row.resources or []),
        "client_id": printable(row.client_id),
        "scope": printable(" ".join(row.scopes)),
        "exp": shown_date(row.expires_at.timestamp()),
    }
    step = ""
    try:
        access_token = opaque_tokens.verify(row, resource)
        step = "user"
        identity = resolving.resolve(access_token)
    except Refused as refused:
        step = REASONS[refused.reason].step or step
        return _refused(
            refused.reason, step, refused.status_code, "", True, contents, steps=OPAQUE_TOKEN_STEPS
        )
    message = _accepted(acceptance(identity), row.client_id, resource)
    return Explanation("ok", "", message, "", 200, True, contents, OPAQUE_TOKEN_STEPS)


def _resource(audience: Any) -> str:
    """Returns the endpoint that a token names, or ""."""
    members = audience if isinstance(audience, list) else [audience]
    return next((each for each in members if isinstance(each, str) and each != conf.oauth_userinfo_url), "")


def _accepted(acceptance: str, client_id: str, resource: str) -> str:
    where = f"Only the endpoint {printable(resource)}" if resource else "Each endpoint for OAuth clients"
    return (
        f"{acceptance} It is an access token of the client {printable(client_id)}. {where} accepts it. "
        "The chat never does."
    )


def _detail(reason: str, claims: dict[str, Any]) -> str:
    """Returns a sentence about what the reason means for this token, or ""."""
    match reason:
        case "expired":
            now = f"{timezone.now():%Y-%m-%d %H:%M:%S} UTC"
            return f"Its exp is {shown_date(claims.get('exp'))}, and now is {now}."
        case "issuer":
            return (
                f"Its iss is {printable(claims.get('iss'))}, and {conf.BETTER_AUTH_OAUTH_ISSUER} is expected."
            )
        case "audience" | "other_audience":
            return f"Its aud is {printable(claims.get('aud'))}."
    return ""


def _refused(
    reason: str,
    step: str,
    status: int,
    detail: str = "",
    is_genuine: bool = False,
    contents: dict[str, str] | None = None,
    steps: dict[str, str] = ACCESS_TOKEN_STEPS,
) -> Explanation:
    message = f"{REASONS[reason].meaning} {detail}".strip()
    remedy = REMEDIES.get(reason, REASONS[reason].remedy)
    return Explanation(reason, step, message, remedy, status, is_genuine, contents or {}, steps)
