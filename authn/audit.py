"""The audit log: one record for each accepted or refused attempt, and for each session that staff revoke.

The facts are attributes of the record (``extra``), so a JSON formatter writes them as fields. A record never
holds a token, a cookie or a message.
"""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from authn import client_address
from authn.credentials.verified_credential import VerifiedCredential

if TYPE_CHECKING:
    from authn.jwt.access_tokens import AccessToken
    from authn.jwt.tokens import Claims
    from authn.models import Session
    from authn.sessions import Identity, Organization

logger = logging.getLogger("authn.audit")

# Sent for every attempt, for the metrics and the admin. Arguments: outcome, reason, status, seconds.
attempted = Signal()

# Matches the request ids of proxies and tracers: UUIDs, hex, AWS's "Root=1-…". Characters that could forge a
# log line, such as a line break, do not match.
REQUEST_ID = re.compile(r"[A-Za-z0-9._:=-]{1,128}")
USER_AGENT_LENGTH = 256


class Attempt:
    """One attempt to authenticate. At its end, ``log_accepted`` or ``log_refused`` writes the log record.

    ``credential``: the kinds of the request's credentials, as in BETTER_AUTH_CREDENTIALS, joined with commas.
    "oauth" for an OAuth access token.
    """

    def __init__(self, request: Request, credential: str | None = None) -> None:
        self.request, self.credential = request, credential
        self.started = time.perf_counter()
        self.claims: Claims | AccessToken | None = None
        # Set as soon as a signature is verified. Then a refused attempt counts for this credential.
        self.verified_credential: VerifiedCredential | None = None

    def log_accepted(self, identity: "Identity") -> None:
        """Write the record of an accepted attempt. Its status is always 200: the view has not run yet."""
        self._write(logging.INFO, "accepted", "ok", 200, identity.session, identity.organization)

    def log_refused(
        self,
        reason: str,
        status: int,
        key_id: str | None = None,
        algorithm: str | None = None,
        session: "Session | None" = None,
    ) -> None:
        """Write the record of a refused attempt. ``status``: the HTTP status of the response.

        The level is info for a 4xx. A 5xx is our own fault, so its level is error. For a 503 the level is
        warning, because the outage itself is logged as an error elsewhere.
        """
        level = logging.INFO if status < 500 else logging.WARNING if status == 503 else logging.ERROR
        self._write(level, "refused", reason, status, session, key_id=key_id, algorithm=algorithm)

    def _write(
        self,
        level: int,
        outcome: str,
        reason: str,
        status: int,
        session: "Session | None" = None,
        organization: "Organization | None" = None,
        *,
        key_id: str | None = None,
        algorithm: str | None = None,
    ) -> None:
        claims, meta = self.claims, self.request.META
        seconds = time.perf_counter() - self.started
        attempted.send(None, outcome=outcome, reason=reason, status=status, seconds=seconds)
        logger.log(
            level,
            "%s: %s",
            outcome,
            reason,
            extra={
                "outcome": outcome,
                "reason": reason,
                "status": status,
                "credential": self.credential,
                "user_id": session.user_id if session else (claims and claims.subject),
                "session_id": session.id if session else (claims and claims.session_id),
                "organization_id": organization.id if organization else None,  # of the organization() plugin
                "client_id": getattr(claims, "client_id", None),  # the OAuth client that acts for the user
                "impersonated_by": getattr(session, "impersonated_by", None),  # of the admin() plugin
                "key_id": key_id or (claims and claims.key_id),
                "algorithm": algorithm or (claims and claims.algorithm),
                "client_address": client_address.address(meta),
                "user_agent": meta.get("HTTP_USER_AGENT", "")[:USER_AGENT_LENGTH],
                "request_id": getattr(self.request, "request_id", None),
                "duration_ms": round(seconds * 1000, 3),
            },
        )


class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic only in the stubs
    """Writes each audit record to stderr, as one JSON object. Silent as soon as another handler has it."""

    ATTRIBUTES = vars(logging.makeLogRecord({})).keys() | {"message"}  # those of every record

    def filter(self, record: logging.LogRecord) -> bool:
        is_alone = logger.handlers == [self] and not (logger.parent and logger.parent.hasHandlers())
        return is_alone and bool(super().filter(record))

    def format(self, record: logging.LogRecord) -> str:
        always = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts = {name: value for name, value in vars(record).items() if name not in self.ATTRIBUTES}
        return json.dumps({**always, **facts}, default=str)


def write_without_logging_setting() -> None:
    """Make the audit log visible in a project whose LOGGING has no handler for it, such as Django's default.

    Without this, Python would drop all records below the level of a warning.
    """
    if not logger.hasHandlers():
        logger.addHandler(StderrHandler())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


def is_dropped() -> bool:
    """Whether the LOGGING of this project drops the records of accepted attempts."""
    return logger.disabled or logger.getEffectiveLevel() > logging.INFO


def log_revoked(request: HttpRequest, user_id: str, session_id: str) -> None:
    """Log that staff revoked a session in the admin. ``revoked_by``: the name of the staff account."""
    logger.info(
        "%s: %s",
        "revoked",
        "by_staff",
        extra={
            "outcome": "revoked",
            "reason": "by_staff",
            "revoked_by": request.user.get_username(),
            "user_id": user_id,
            "session_id": session_id,
            "client_address": client_address.address(request.META),
            "user_agent": request.META.get("HTTP_USER_AGENT", "")[:USER_AGENT_LENGTH],
            "request_id": getattr(request, "request_id", None),
        },
    )


def request_id_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Gives each request a ``request_id``, and sends it in the response's X-Request-ID header.

    Uses the X-Request-ID of the request if that matches ``REQUEST_ID``.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = str(uuid.uuid4())
        setattr(request, "request_id", request_id)  # noqa: B010 - HttpRequest declares no such attribute
        response = get_response(request)
        response["X-Request-ID"] = request_id
        return response

    return middleware
