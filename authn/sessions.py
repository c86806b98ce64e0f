"""Finds the user and the active session of a credential.

If the sessions are in the database, each look-up is one SQL statement.
"""

from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, NamedTuple, cast

from django.db.models import Case, Exists, FilteredRelation, OuterRef, Q, Subquery, TextField, When
from django.db.models.functions import Cast
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn import models
from authn.conf import conf
from authn.errors import NoActiveSession, TokenRefused, UserBanned, UserNotFound, unavailable_on_outage
from authn.jwt.access_tokens import AccessToken
from authn.jwt.signed import ID
from authn.jwt.tokens import Claims, normalize_email
from authn.models import HAS_ORGANIZATIONS, SESSION_TOKEN, Session, User, split_roles
from authn.tables.compiled import CompiledQuery


@dataclass(frozen=True, slots=True)
class Organization:
    """The user's active organization. ``role``: the user's role in it, such as "owner" or "admin,member"."""

    id: str
    role: str

    @property
    def roles(self) -> set[str]:
        return split_roles(self.role)


@dataclass(frozen=True, slots=True)
class Identity:
    """``request.auth``: the user, their active session, and the claims if the credential is a JWT.

    ``session``: ``None`` only if an OAuth client acts for a user who has signed out, which needs the setting
    BETTER_AUTH_OAUTH_OFFLINE_ACCESS.
    ``organization``: the session's active organization, or ``None`` if the user is not a member of it now.
    ``access_token``: only if an OAuth client acts for the user.
    """

    user: User
    session: Session | None
    claims: Claims | None
    organization: Organization | None = None
    access_token: AccessToken | None = None

    @property
    def user_id(self) -> str:
        return cast(str, self.user.id)


def resolve(claims: Claims) -> Identity:
    """Find the user and the active session of a verified JWT.

    If the JWT names a session (``sid``), only that session is accepted. Otherwise any active session of the
    user is accepted.

    Raises ``UserNotFound``, ``NoActiveSession`` or ``UserBanned``. Raises ``Unavailable`` if the database or
    the Redis with the sessions does not answer. Raises ``TokenRefused`` if a new JWT may be accepted:

    - the user's email has changed ("address_changed")
    - the JWT's email belongs to another user ("subject_mismatch")
    - the JWT's session has ended, and the user has another active session ("session_ended")
    """
    # The second look-up finds a user whose email has changed, or was imported with capitals.
    found = _look_up(claims, "email", claims.email) or _look_up(claims, "id", claims.subject)
    if found is None:
        raise UserNotFound
    user, session = found.user, found.session
    # An old JWT may name an email that belongs to another user now.
    if user.id != claims.subject:
        raise TokenRefused("subject_mismatch")
    if normalize_email(user.email) != claims.email:
        raise TokenRefused("address_changed")
    if user.is_banned:
        raise UserBanned(session=session)
    if session is None:
        raise TokenRefused("session_ended") if found.has_other_session else NoActiveSession
    return Identity(user, session, claims, found.organization)


@sensitive_variables()
def resolve_token(token: str, *, is_signed: bool) -> Identity:
    """Find the session of a session token, and the session's user.

    ``is_signed``: the token came with a signature, and the signature is verified.

    Raises ``UserNotFound``, ``UserBanned`` or ``Unavailable``, like ``resolve``. Raises ``NoActiveSession``
    if the session has ended. If no session has the token, the exception depends on ``is_signed``:

    - signed: ``NoActiveSession``. Better Auth issued the token, so its session has ended.
    - not signed: ``TokenRefused("unknown_token")``. The client may have invented the token.
    """
    found = _with_token(token)
    if found is None:
        raise NoActiveSession if is_signed else TokenRefused("unknown_token")
    session, organization = found
    if session.user.is_banned:
        raise UserBanned(session=session)
    if not session.is_active:
        raise NoActiveSession(session=session)
    return Identity(session.user, session, None, organization)


def _with_token(token: str) -> tuple[Session, Organization | None] | None:
    """Returns the session with this token, and its organization. The session may have expired.

    The session has its user.
    """
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        with unavailable_on_outage():
            rows = _session_with_user(token=token)
        if not rows:
            return None
        stored = _session_from(rows[0][len(USER_COLUMNS) :], _user_from(rows[0]))
        return stored, _organization(stored, rows[0][-1]) if HAS_ORGANIZATIONS else None
    session: Session | None = _secondary_storage().with_token(token)
    if session is None:
        return None
    # Redis also has a copy of the user. It may be outdated and lack a ban, so we read the user's row.
    user = _user("id", session.user_id)
    if user is None:
        raise UserNotFound(session=session)
    session.user = user
    return session, organization_of(session)


class Found(NamedTuple):
    """The user of a JWT, and their active session.

    ``session``: the session that the JWT names, if it is active. If the JWT names none: the active session
    that expires last. ``None`` if there is no such session.
    ``has_other_session``: whether the user has any other active session. Only set if ``session`` is ``None``.
    ``organization``: the active organization of ``session``, if the user is a member of it now.
    """

    user: User
    session: Session | None
    has_other_session: bool = False
    organization: Organization | None = None


def _look_up(claims: Claims, field: str, value: str) -> Found | None:
    """Returns the user whose ``field`` ("email" or "id") has this value, and the session of the JWT.

    Returns ``None`` if there is no such user.
    """
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        return _query(claims, field, value)
    user = _user(field, value)
    if user is None:
        return None
    has_other_session = False
    for session in _secondary_storage().active_sessions(user.id):
        if claims.session_id in (None, session.id):
            session.user = user
            return Found(user, session, organization=organization_of(session))
        has_other_session = True
    return Found(user, None, has_other_session)


def _secondary_storage() -> ModuleType:
    # Imported here because it loads the Redis client. Most deployments have their sessions in the database.
    from authn.credentials import secondary_storage

    return secondary_storage


def _user(field: str, value: str) -> User | None:
    with unavailable_on_outage():
        return User.objects.filter(**{field: value}).first()


def _query(claims: Claims, field: str, value: str) -> Found | None:
    """Does what ``_look_up`` does, with one SQL statement for the user, the session and the membership."""
    session_id = claims.session_id
    with unavailable_on_outage():
        rows = _user_with_session(
            field, session_id is not None, now=timezone.now(), session_id=session_id, **{field: value}
        )
    return found_in(rows[0]) if rows else None


def found_in(row: list[Any]) -> Found:
    """``row``: the columns of ``queryset_with_session``."""
    user, rest = _user_from(row), row[len(USER_COLUMNS) :]
    if rest[0] is None:
        return Found(user, None, has_other_session=bool(rest[len(SESSION_COLUMNS)]))
    session = _session_from(rest, user)
    return Found(user, session, organization=_organization(session, rest[-1]) if HAS_ORGANIZATIONS else None)


def _user_from(row: list[Any]) -> User:
    """``row``: begins with the user's columns."""
    return User.from_db(conf.BETTER_AUTH_DATABASE, USER_COLUMNS, row[: len(USER_COLUMNS)])


def _session_from(row: list[Any], user: User) -> Session:
    """``row``: begins with the session's columns."""
    session = Session.from_db(conf.BETTER_AUTH_DATABASE, SESSION_COLUMNS, row[: len(SESSION_COLUMNS)])
    session.user = user
    return session


def queryset_with_session(
    field: str, names_session: bool, now: datetime, session_id: str, **values: str
) -> Any:
    """Returns a queryset of one row: the user's columns, the session's columns, and ``has_other_session``.

    With the organization() plugin, the last column is the user's role in the session's active organization.
    The session's columns are NULL if there is no such session. ``field``: the user's field to filter by,
    "email" or "id". ``names_session``: whether the JWT names a session. ``values``: has the value of
    ``field``. While the queryset is compiled, it has both "email" and "id".
    """
    condition = Q(sessions__expires_at__gt=now)
    if names_session:
        condition &= Q(sessions__id=session_id)
    unexpired_sessions = Session.objects.filter(user=OuterRef("pk"), expires_at__gt=now)
    # PostgreSQL evaluates this subquery only if the join has found no session.
    has_other_session = Case(When(active_session__id=None, then=Exists(unexpired_sessions)))
    session_columns = [f"active_session__{name}" for name in SESSION_COLUMNS]
    columns = {"has_other_session": has_other_session}
    if HAS_ORGANIZATIONS:
        columns["member_role"] = _member_role("pk", "active_session__active_organization_id")
    return (
        # Exact match: the emails of two users may differ only in capital letters. "iexact" could find both
        # users.
        User.objects.filter(**{field: values[field]})
        # FilteredRelation makes a left join, which also returns a user without a session. So "no session" and
        # "no user" get different responses.
        .annotate(active_session=FilteredRelation("sessions", condition=condition))
        .annotate(**columns)
        .order_by("-active_session__expires_at")
        .values_list(*USER_COLUMNS, *session_columns, *columns)[:1]
    )


def _queryset_of_token(token: str) -> Any:
    """Returns a queryset of one row: the columns of the user and of the session with this token.

    With the organization() plugin, the last column is the one that ``queryset_with_session`` describes.
    """
    columns = {"member_role": _member_role("user", "active_organization_id")} if HAS_ORGANIZATIONS else {}
    user_columns = [f"user__{name}" for name in USER_COLUMNS]
    found = Session.with_token(token).annotate(**columns)
    return found.values_list(*user_columns, *SESSION_COLUMNS, *columns)[:1]


def _member_role(user: str, organization: str) -> Any:
    """Returns an expression: the role of the user in the organization, or NULL if the user is not a member.

    ``user``, ``organization``: the names of their columns in the outer queryset.

    ``activeOrganizationId`` is always text, but ``organizationId`` may be a number or a UUID. So compare both
    as text. PostgreSQL finds the user's memberships with an index on ``userId``, and they are few.
    """
    members: Any = models.Member
    by_text = members.objects.alias(as_text=Cast("organization_id", TextField()))
    wanted = Cast(OuterRef(organization), TextField())
    return Subquery(by_text.filter(user=OuterRef(user), as_text=wanted).values("role")[:1])


def _organization(session: Session, member_role: str | None) -> Organization | None:
    """``member_role``: the value of ``_member_role``."""
    return None if member_role is None else Organization(session.active_organization_id, member_role)


def organization_of(session: Session) -> Organization | None:
    """Does what ``_organization`` does, for a session from Redis. Takes an SQL statement of its own."""
    if not HAS_ORGANIZATIONS or not ID.fullmatch(session.active_organization_id or ""):
        return None
    members: Any = models.Member
    with unavailable_on_outage():
        found = members.objects.filter(user=session.user, organization_id=session.active_organization_id)
        return _organization(session, found.values_list("role", flat=True).first())


USER_COLUMNS = [field.attname for field in User._meta.concrete_fields]
SESSION_COLUMNS = [field.attname for field in Session._meta.concrete_fields]

_user_with_session = CompiledQuery(
    User,
    queryset_with_session,
    email=User._meta.get_field("email"),
    id=User._meta.pk,
    now=Session._meta.get_field("expires_at"),
    session_id=Session._meta.pk,
)
_session_with_user = CompiledQuery(Session, _queryset_of_token, token=SESSION_TOKEN)
