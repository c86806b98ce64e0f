"""Finds the user, the session and the consent that an access token depends on."""

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from authn import models
from authn.conf import conf
from authn.errors import TokenRefused, UserBanned, unavailable_on_outage
from authn.jwt.access_tokens import AccessToken
from authn.models import Session, User
from authn.sessions import Found, Identity, found_in, organization_of, queryset_with_session
from authn.tables.compiled import CompiledQuery


def resolve(token: AccessToken) -> Identity:
    """Find the user, session and consent of a verified access token, with one SQL statement.

    Raises ``UserBanned``, ``Unavailable`` or ``TokenRefused``. An OAuth client understands only a 401, so it
    gets one in place of the 404s of ``authn.sessions.resolve``.
    """
    grant = _look_up(token)
    if grant is None:
        raise TokenRefused("user_not_found")
    user, session = grant.found.user, grant.found.session
    if user.is_banned:
        raise UserBanned(session=session)
    # Better Auth itself accepts the token until it expires, after the user has revoked their consent.
    if not grant.client_is_enabled:
        raise TokenRefused("client_disabled", session=session)
    if not grant.has_consent:
        raise TokenRefused("consent_revoked", session=session)
    if session is None and not _may_act_offline(token):
        if token.session_id is None:
            raise TokenRefused("offline_token")
        raise TokenRefused("signed_out")
    return Identity(user, session, None, grant.found.organization, token)


def _may_act_offline(token: AccessToken) -> bool:
    """Whether the user need not be signed in. They have allowed that with the scope ``offline_access``."""
    return conf.BETTER_AUTH_OAUTH_OFFLINE_ACCESS and "offline_access" in token.scopes


class Grant(NamedTuple):
    """``client_is_enabled``: it is not disabled in Better Auth. ``has_consent``: the user allows it."""

    found: Found
    client_is_enabled: bool
    has_consent: bool


def _look_up(token: AccessToken) -> Grant | None:
    # No session has an empty id. So the statement is the same for a token that names no session.
    session_id = token.session_id or ""
    with unavailable_on_outage():
        rows = _user_with_grant(
            now=timezone.now(), session_id=session_id, id=token.subject, client_id=token.client_id
        )
    if not rows:
        return None
    *columns, client_is_enabled, has_consent = rows[0]
    found = found_in(columns)
    if conf.BETTER_AUTH_SESSION_SOURCE != "database":
        found = _in_secondary_storage(found.user, session_id)
    return Grant(found, bool(client_is_enabled), bool(has_consent))


def _in_secondary_storage(user: User, session_id: str) -> Found:
    from authn.credentials import secondary_storage  # imported here, because it loads the Redis client

    for session in secondary_storage.active_sessions(user.id):
        if session.id == session_id:
            session.user = user
            return Found(user, session, organization=organization_of(session))
    return Found(user, None)


def _queryset(now: datetime, session_id: str, client_id: str, **values: str) -> Any:
    """Returns ``queryset_with_session`` with two more columns: ``client_is_enabled`` and ``has_consent``.

    A client with ``skipConsent`` needs no consent.
    """
    client = models.OAuthClient._default_manager.filter(id=client_id)
    is_enabled = Exists(client.filter(Q(disabled=False) | Q(disabled=None)))
    consents = models.OAuthConsent._default_manager.filter(user=OuterRef("pk"), client_id=client_id)
    has_consent = Exists(consents) | Exists(client.filter(skip_consent=True))
    return queryset_with_session("id", True, now, session_id, **values).annotate(
        client_is_enabled=is_enabled, has_consent=has_consent
    )


if "oauth-provider" in conf.BETTER_AUTH_PLUGINS:
    _user_with_grant = CompiledQuery(
        User,
        _queryset,
        id=User._meta.pk,
        now=Session._meta.get_field("expires_at"),
        session_id=Session._meta.pk,
        client_id=models.OAuthClient._meta.pk,
    )
