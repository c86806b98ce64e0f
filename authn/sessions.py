"""Finds the user and the active session of a credential, with one SQL statement."""

from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, NamedTuple, cast

from django.db.models import Case, Exists, FilteredRelation, OuterRef, Q, When
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import NoActiveSession, TokenRefused, UserBanned, UserNotFound, unavailable_on_outage
from authn.jwt.tokens import Claims, normalize_email
from authn.models import Session, User
from authn.tables.compiled import CompiledQuery


@dataclass(frozen=True, slots=True)
class Identity:
    """``request.auth``: the user, their active session, and the claims if the credential is a JWT."""

    user: User
    session: Session
    claims: Claims | None

    @property
    def user_id(self) -> str:
        return cast(str, self.session.user_id)


def resolve(claims: Claims) -> Identity:
    """Find the claims' user and an active session. If the token names a session, only that one counts.

    Raises ``UserNotFound``, ``NoActiveSession``, ``UserBanned``; ``Unavailable`` if the database does not
    answer; ``TokenRefused`` if a new token may be accepted: if the user's email has changed, if the token's
    email belongs to somebody else, or if the token's session has ended and the user has another active one.
    """
    # The second look-up finds a user whose email has changed, or was imported with capitals.
    found = _look_up(claims, email=claims.email) or _look_up(claims, id=claims.subject)
    if found is None:
        raise UserNotFound
    user, session = found.user, found.session
    # The email may belong to another user now, while an old token still names it.
    if user.id != claims.subject:
        raise TokenRefused("subject_mismatch")
    if normalize_email(user.email) != claims.email:
        raise TokenRefused("address_changed")
    if user.is_banned:
        raise UserBanned(session=session)
    if session is None:
        raise TokenRefused("session_ended") if found.has_other_session else NoActiveSession
    return Identity(user, session, claims)


@sensitive_variables()
def resolve_token(token: str, *, is_signed: bool) -> Identity:
    """Find the session with that token, and its user. Raises the same exceptions as ``resolve``.

    ``is_signed``: the signature shows that Better Auth issued the token. So if there is no such session, it
    has ended. A token without a signature may be an invention.
    """
    session = _with_token(token)
    if session is None:
        raise NoActiveSession if is_signed else TokenRefused("unknown_token")
    if session.user.is_banned:
        raise UserBanned(session=session)
    if not session.is_active:
        raise NoActiveSession(session=session)
    return Identity(session.user, session, None)


def _with_token(token: str) -> Session | None:
    """The session and its user, even if it has expired."""
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        with unavailable_on_outage():
            return Session.with_token(token).select_related("user").first()
    session: Session | None = _secondary_storage().with_token(token)
    if session is None:
        return None
    user = _user(id=session.user_id)  # not the copy in the storage: it may lack a ban
    if user is None:
        raise UserNotFound(session=session)
    session.user = user
    return session


class Found(NamedTuple):
    """``session``: active; the token's own if it names one. ``has_other_session``: only set without it."""

    user: User
    session: Session | None
    has_other_session: bool = False


def _look_up(claims: Claims, **by: str) -> Found | None:
    """``by``: either ``email`` or ``id`` of the user."""
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        return _query(claims, **by)
    user = _user(**by)
    if user is None:
        return None
    has_other_session = False
    for session in _secondary_storage().active_sessions(user.id):
        if claims.session_id in (None, session.id):
            session.user = user
            return Found(user, session)
        has_other_session = True
    return Found(user, None, has_other_session)


def _secondary_storage() -> ModuleType:
    from authn.credentials import secondary_storage  # it loads the Redis client, and only this needs it

    return secondary_storage


def _user(**by: str) -> User | None:
    with unavailable_on_outage():
        return User.objects.filter(**by).first()


def _query(claims: Claims, **by: str) -> Found | None:
    (field,) = by
    session_id = claims.session_id
    with unavailable_on_outage():
        rows = _user_with_session(
            field, session_id is not None, now=timezone.now(), session_id=session_id, **by
        )
    if not rows:
        return None
    *columns, has_other_session = rows[0]
    user_row, session_row = columns[: len(USER_COLUMNS)], columns[len(USER_COLUMNS) :]
    user = User.from_db(conf.BETTER_AUTH_DATABASE, USER_COLUMNS, user_row)
    if session_row[0] is None:
        return Found(user, None, bool(has_other_session))
    session = Session.from_db(conf.BETTER_AUTH_DATABASE, SESSION_COLUMNS, session_row)
    session.user = user
    return Found(user, session)


def _queryset(field: str, names_session: bool, now: datetime, session_id: str, **by: str) -> Any:
    is_active = Q(sessions__expires_at__gt=now)
    active_sessions = Session.objects.filter(user=OuterRef("pk"), expires_at__gt=now)
    # A left join also returns a user without an active session. So "no session" and "no user" get different
    # responses.
    active = FilteredRelation(
        "sessions", condition=is_active & Q(sessions__id=session_id) if names_session else is_active
    )
    return (
        # Exact match: the column is unique case-sensitively, so "iexact" could find two users.
        User.objects.filter(**{field: by[field]})
        # PostgreSQL evaluates the subquery only if the token's own session is missing.
        .annotate(active=active, other=Case(When(active__id=None, then=Exists(active_sessions))))
        .order_by("-active__expires_at")
        .values_list(*USER_COLUMNS, *(f"active__{name}" for name in SESSION_COLUMNS), "other")[:1]
    )


USER_COLUMNS = [field.attname for field in User._meta.concrete_fields]
SESSION_COLUMNS = [field.attname for field in Session._meta.concrete_fields]

_user_with_session = CompiledQuery(
    User,
    _queryset,
    email=User._meta.get_field("email"),
    id=User._meta.pk,
    now=Session._meta.get_field("expires_at"),
    session_id=Session._meta.pk,
)
