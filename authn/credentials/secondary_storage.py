"""Sessions that Better Auth keeps in its ``secondaryStorage``, a Redis, and in no table. Read, never written.

``<token>``: ``{"session": {…}, "user": {…}}``, of which the user is a copy that ages and is not read;
``active-sessions-<user id>``: ``[{"token": …, "expiresAt": <epoch ms>}, …]``;
``revoked-sessions-before-<user id>``: epoch ms, before which no session of that user counts.
Source: better-auth packages/better-auth/src/db/internal-adapter.ts.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

import redis
from django.db.models import DateTimeField
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import Unavailable
from authn.jwt.tokens import ID
from authn.models import Session
from runtime.circuit_breaker import CircuitBreaker

TIMEOUT_SECONDS = 1.0  # for each step: connecting, and each of at most two answers
# Somebody who signs in all day long has as many values to fetch at each request; the latest are enough.
MOST_SESSIONS = 500


@sensitive_variables()
def with_token(token: str) -> Session | None:
    """The session with that token, whether or not it has expired."""
    [value] = _get([token])
    session = _session(value, token)
    if session is None:
        return None
    [revoked_before] = _get([_revoked_before(session.user_id)])
    return None if _is_revoked(session, revoked_before) else session


@sensitive_variables()
def live_sessions(user_id: str) -> Iterator[Session]:
    """The user's live sessions; the one that expires last comes first. Redis keeps them by token, so an id is
    found only by reading all of them."""
    active, revoked_before = _get([f"active-sessions-{user_id}", _revoked_before(user_id)])
    tokens = _tokens(active)
    values = _get(tokens) if tokens else []
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
    """Whether it is an address of a Redis at all; nothing is connected."""
    try:
        pool = _client(url).connection_pool
        pool.connection_class(**pool.connection_kwargs)  # else the first request finds an option that is none
    except (ValueError, TypeError):
        return False
    return True


def _revoked_before(user_id: str) -> str:
    return f"revoked-sessions-before-{user_id}"


def _is_revoked(session: Session, revoked_before: bytes | None) -> bool:
    """Better Auth also deletes what it revokes; a session that was being written meanwhile may be back."""
    if revoked_before is None:
        return False
    try:
        return bool(round(session.created_at.timestamp() * 1000) < int(revoked_before))
    except ValueError:  # no point in time, so nothing says that this session came after it
        return True


def _tokens(active: bytes | None) -> list[str]:
    """Of those sessions that have not expired, the one that lives longest first."""
    listed = _parsed(active)
    now = timezone.now().timestamp() * 1000
    expiries = {
        entry["token"]: entry["expiresAt"]
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("token"), str)
        and isinstance(entry.get("expiresAt"), int | float)
        and entry["expiresAt"] > now
    }
    return sorted(expiries, key=lambda token: -expiries[token])[:MOST_SESSIONS]


def _session(value: bytes | None, token: str) -> Session | None:
    """``None`` for whatever is no session of that token: without a prefix, all sorts of keys are in there."""
    stored = _parsed(value)
    members = stored.get("session") if isinstance(stored, dict) else None
    if not isinstance(members, dict) or members.get("token") != token:
        return None
    fields = Session._meta.concrete_fields
    try:
        values = [_member(field, members.get(_camel(field.attname))) for field in fields]
    except (TypeError, ValueError, OverflowError):
        return None
    # As if it came from where the user does, for Django lets only rows of one database be related.
    return Session.from_db(conf.BETTER_AUTH_DATABASE, [field.attname for field in fields], values)


def _member(field: Any, value: Any) -> Any:
    if value is None and field.null:
        return None
    if isinstance(field, DateTimeField):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        return moment.astimezone(UTC)
    if type(value) not in (str, int):  # True is an int as well
        raise TypeError
    if field.attname in ("id", "user_id") and not ID.fullmatch(str(value)):
        raise ValueError("no id")
    return str(value)


def _camel(attname: str) -> str:
    """``user_id`` is ``userId`` in there, whatever the columns of a table would be called."""
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), attname)


def _parsed(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


@sensitive_variables()
def _get(keys: Sequence[str]) -> list[bytes | None]:
    """One MGET; what is there but no string is ``None``. Raises ``Unavailable``."""
    url, prefix = conf.BETTER_AUTH_SESSION_SOURCE, conf.BETTER_AUTH_SESSION_PREFIX
    client, breaker = _client(url), _breaker(url)
    if not breaker.allows_call():
        raise Unavailable("sessions_unavailable")
    try:
        values = client.mget([f"{prefix}{key}".encode(errors="replace") for key in keys])
        if not isinstance(values, list) or len(values) != len(keys):
            raise redis.InvalidResponse("not as many values as keys")
    except Exception as exc:  # of what is no Redis, the client raises errors that are not its own, too
        breaker.failed(exc)
        raise Unavailable("sessions_unavailable") from exc
    breaker.succeeded()
    return cast(list[bytes | None], values)


@cache
def _client(url: str) -> redis.Redis:
    """One pool of connections a process; it grows with the threads that ask at once."""
    return redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)


@cache
def _breaker(url: str) -> CircuitBreaker:
    return CircuitBreaker("Sessions (BETTER_AUTH_SESSION_SOURCE)")
