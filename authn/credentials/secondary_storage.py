"""Reads sessions from Better Auth's ``secondaryStorage``, a Redis. Then there may be no session table.

The keys and their values:

- ``<token>``: ``{"session": {…}, "user": {…}}``. The user is a copy that may be outdated, so we do not read
  it.
- ``active-sessions-<user id>``: ``[{"token": …, "expiresAt": <epoch ms>}, …]``.
- ``revoked-sessions-before-<user id>``: epoch ms. All sessions that the user began before that time are
  revoked.

Source: better-auth packages/better-auth/src/db/internal-adapter.ts.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from django.db.models import DateTimeField
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import Unavailable
from authn.jwt.signed import ID
from authn.models import Session
from runtime.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_SECONDS = 1.0  # for the connection, and again for each response; a look-up sends two commands at most
MAX_SESSIONS = 500  # a request reads at most this many sessions of a user: those that expire last


@sensitive_variables()
def with_token(token: str) -> Session | None:
    """Returns the session with this token, even if it has expired. ``None`` if it is missing or revoked."""
    [value] = _mget([token])
    session = _session(value, token)
    if session is None:
        return None
    [revoked_before] = _mget([_revoked_before(session.user_id)])
    return None if _is_revoked(session, revoked_before) else session


@sensitive_variables()
def active_sessions(user_id: str) -> Iterator[Session]:
    """Yields the user's active sessions. The session that expires last comes first.

    Redis stores a session under its token. To find a session by its id, we have to read all sessions of the
    user.
    """
    active, revoked_before = _mget([f"active-sessions-{user_id}", _revoked_before(user_id)])
    tokens = _tokens(active)
    values = _mget(tokens) if tokens else []
    for value, token in zip(values, tokens, strict=True):
        session = _session(value, token)
        if (
            session is not None
            and session.user_id == user_id
            and session.is_active
            and not _is_revoked(session, revoked_before)
        ):
            yield session


def is_redis_url(url: str) -> bool:
    """Whether the Redis client accepts the URL. Does not connect."""
    try:
        pool = _client(url).connection_pool
        pool.connection_class(**pool.connection_kwargs)  # raises for a wrong option in the URL
    except (ValueError, TypeError):
        return False
    return True


def _revoked_before(user_id: str) -> str:
    return f"revoked-sessions-before-{user_id}"


def _is_revoked(session: Session, revoked_before: bytes | None) -> bool:
    """Whether the session began before the time until which the user's sessions are revoked.

    Better Auth also deletes revoked sessions. But a session that it writes at the same moment stays.
    """
    if revoked_before is None:
        return False
    try:
        return bool(round(session.created_at.timestamp() * 1000) < int(revoked_before))
    except ValueError:  # the value is not a time, so the session may have begun before it
        return True


def _tokens(active: bytes | None) -> list[str]:
    """Returns the tokens of sessions that have not expired. The session that expires last comes first."""
    entries = _parse_json(active)
    now = timezone.now().timestamp() * 1000
    expiries = {
        entry["token"]: entry["expiresAt"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("token"), str)
        and isinstance(entry.get("expiresAt"), int | float)
        and entry["expiresAt"] > now
    }
    return sorted(expiries, key=lambda token: -expiries[token])[:MAX_SESSIONS]


def _session(value: bytes | None, token: str) -> Session | None:
    """Returns the session in a value of Redis. ``None`` if the value is not a session with this token.

    Other programs may use the same Redis, so a value may be anything.
    """
    stored = _parse_json(value)
    members = stored.get("session") if isinstance(stored, dict) else None
    if not isinstance(members, dict) or members.get("token") != token:
        return None
    fields = Session._meta.concrete_fields
    try:
        values = [_to_python(field, members.get(_camel_case(field.attname))) for field in fields]
    except (TypeError, ValueError, OverflowError):
        return None
    # Name the database of the users, although the session is from Redis. Otherwise Django does not allow us
    # to set ``session.user``: it relates only objects of the same database.
    return Session.from_db(conf.BETTER_AUTH_DATABASE, [field.attname for field in fields], values)


def _to_python(field: Any, value: Any) -> Any:
    if value is None and field.null:
        return None
    if isinstance(field, DateTimeField):
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is None:
            raise ValueError("a time without a zone")
        return parsed.astimezone(UTC)
    if type(value) not in (str, int):  # not isinstance: True is an int too
        raise TypeError
    if field.attname in ("id", "user_id") and not ID.fullmatch(str(value)):
        raise ValueError("not an id")
    return str(value)


def _camel_case(attname: str) -> str:
    """Returns ``userId`` for ``user_id``. In Redis the names are always in camel case."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), attname)


def _parse_json(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


@sensitive_variables()
def _mget(keys: Sequence[str]) -> list[bytes | None]:
    """Send one MGET and return the values: ``None`` for a missing key, or for a value that is not a string.

    Raises ``Unavailable`` if the Redis does not answer.
    """
    url, prefix = conf.BETTER_AUTH_SESSION_SOURCE, conf.BETTER_AUTH_SESSION_PREFIX
    client, breaker = _client(url), _breaker(url)
    if not breaker.allows_call():
        raise Unavailable("sessions_unavailable")
    try:
        values = client.mget([f"{prefix}{key}".encode(errors="replace") for key in keys])
        if not isinstance(values, list) or len(values) != len(keys):
            raise ValueError("the number of values is not the number of keys")
    # Catch every exception: if the server is not a Redis, the client may also raise errors of other
    # libraries.
    except Exception as exc:
        breaker.failed(exc)
        raise Unavailable("sessions_unavailable") from exc
    breaker.succeeded()
    return cast(list[bytes | None], values)


@cache
def _client(url: str) -> "Redis":
    """Returns the process's client. Its connection pool grows with the number of concurrent threads."""
    import redis  # imported here, because a project without this Redis does not need the package

    return redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)


@cache
def _breaker(url: str) -> CircuitBreaker:
    return CircuitBreaker("Sessions (BETTER_AUTH_SESSION_SOURCE)")
