"""Who is it, and is their session still alive? One statement, one round trip."""

from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, cast

from django.db.models import FilteredRelation, Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn.compiled import Compiled
from authn.conf import conf
from authn.errors import NoActiveSession, TokenRefused, UserBanned, UserNotFound, database_or_unavailable
from authn.models import Session, User
from authn.tokens import Claims


@dataclass(frozen=True, slots=True)
class Identity:
    """``request.auth``: the user, the live session that vouches for them, and the claims of a JWT."""

    user: User
    session: Session
    claims: Claims | None

    @property
    def user_id(self) -> str:
        return cast(str, self.session.user_id)


def resolve(claims: Claims) -> Identity:
    """Find the claims' user and a live session of theirs: the token's own, where it names one.

    Raises ``UserNotFound``, ``NoActiveSession``, ``UserBanned``; ``TokenRefused`` when the address
    belongs to somebody else by now; ``Unavailable`` when the database does not answer.
    """
    user, session = _look_up(claims)
    if user is None:
        raise UserNotFound
    # An address can change hands while an old token still names it.
    if user.id != claims.subject:
        raise TokenRefused("subject_mismatch")
    if user.is_banned:
        raise UserBanned(session=session)
    if session is None:
        raise NoActiveSession
    return Identity(user, session, claims)


@sensitive_variables()
def resolve_token(token: str, *, is_signed: bool) -> Identity:
    """Find the session with that token, and its user. Raises what ``resolve`` raises.

    ``is_signed``: Better Auth gave the token out, so a session that is not there has ended. Nothing
    says so of a token without a signature.
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
    """Whether or not it is still alive, and with its user."""
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        with database_or_unavailable():
            return Session.with_token(token).select_related("user").first()
    session: Session | None = _secondary_storage().with_token(token)
    if session is None:
        return None
    user = _user(id=session.user_id)  # and never the copy in the storage: it knows of no ban
    if user is None:
        raise UserNotFound(session=session)
    session.user = user
    return session


def _look_up(claims: Claims) -> tuple[User | None, Session | None]:
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        return _in_one_statement(claims)
    user = _user(email=claims.email)
    if user is None:
        return None, None
    session = _secondary_storage().live_session(user.id, claims.session_id)
    if session is not None:
        session.user = user
    return user, session


def _secondary_storage() -> ModuleType:
    from authn import secondary_storage  # brings Redis' client, which nobody else needs

    return secondary_storage


def _user(**named: str) -> User | None:
    with database_or_unavailable():
        return User.objects.filter(**named).first()


def _in_one_statement(claims: Claims) -> tuple[User | None, Session | None]:
    values = {"email": claims.email, "now": timezone.now(), "session_id": claims.session_id}
    with database_or_unavailable():
        rows = _row_of(claims.session_id is not None, **values)
    if not rows:
        return None, None
    user_row, session_row = rows[0][: len(USER_COLUMNS)], rows[0][len(USER_COLUMNS) :]
    user = User.from_db(conf.BETTER_AUTH_DATABASE, USER_COLUMNS, user_row)
    if session_row[0] is None:
        return user, None
    session = Session.from_db(conf.BETTER_AUTH_DATABASE, SESSION_COLUMNS, session_row)
    session.user = user
    return user, session


def _user_with_session(is_named: bool, email: str, now: datetime, session_id: str) -> Any:
    is_live = Q(sessions__expires_at__gt=now)
    if is_named:
        is_live &= Q(sessions__id=session_id)
    return (
        # Matched exactly: the column's uniqueness is case-sensitive, so "iexact" could find two people.
        User.objects.filter(email=email)
        # A left join: a user without a live session comes back too, and gets another answer than nobody.
        .annotate(live=FilteredRelation("sessions", condition=is_live))
        .order_by("-live__expires_at")
        .values_list(*USER_COLUMNS, *(f"live__{name}" for name in SESSION_COLUMNS))[:1]
    )


USER_COLUMNS = [field.attname for field in User._meta.concrete_fields]
SESSION_COLUMNS = [field.attname for field in Session._meta.concrete_fields]

_row_of = Compiled(
    User,
    _user_with_session,
    email=User._meta.get_field("email"),
    now=Session._meta.get_field("expires_at"),
    session_id=Session._meta.pk,
)
