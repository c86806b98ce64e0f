"""DRF's side of it: from headers to ``request.user``, ``request.auth`` and ``request.user_id``."""

import re
from collections.abc import Container, Iterable

from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from authn import sessions, throttling
from authn.audit import Attempt
from authn.conf import conf
from authn.credentials import session_tokens
from authn.errors import (
    OriginRefused,
    Refused,
    SeveralSessionCookies,
    TokenRefused,
    TooManyAttempts,
    TwoCredentials,
    Unavailable,
)
from authn.jwt import tokens
from authn.models import User
from authn.sessions import Identity
from authn.throttling import VerifiedCredential

CHALLENGE = 'Bearer realm="chatbackend"'  # without one DRF answers 403 in place of 401
# Only the whitespace (WSP) of RFC 6265 §5.2. Python's strip() also removes \xa0 and \x85. A browser lets a
# page without https set a cookie named "\xa0__Secure-…", and strip() would make that name ours.
WHITESPACE = " \t"
MAX_SESSION_COOKIES = 4  # with one name: one of the host, and one of each parent domain
ANOTHER_BEARER = re.compile(r", *bearer ", re.IGNORECASE)


class Credential(BaseAuthentication):
    """One way of saying who is calling. It takes its own kind and leaves every other to others.

    Gives ``request.user`` (``authn.models.User``), ``request.auth`` (``Identity``) and
    ``request.user_id`` (``str``).
    """

    name: str

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        return _authenticate(request, [self])

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    def offered(self, request: Request) -> list[str]:
        """The values of this kind that the request carries."""
        raise NotImplementedError

    def identify(self, value: str, attempt: Attempt) -> Identity:
        """Raises ``Refused``."""
        raise NotImplementedError


class BetterAuthJWTAuthentication(Credential):
    """``Authorization: Bearer <JWT from Better Auth's jwt() plugin>``."""

    name = "jwt"

    def offered(self, request: Request) -> list[str]:
        return _bearers(request, dots=(2,))

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        try:
            attempt.claims = claims = tokens.verify(value)
        except TokenRefused as refused:
            if refused.verified_payload is not None:
                attempt.verified_credential = VerifiedCredential.jwt(
                    refused.verified_payload.get("sid"), refused.verified_payload.get("sub")
                )
            raise
        attempt.verified_credential = VerifiedCredential.jwt(claims.session_id, claims.subject, value)
        throttling.check_token(attempt)
        return sessions.resolve(claims)


class BetterAuthBearerAuthentication(Credential):
    """``Authorization: Bearer <session token, signed>``, as Better Auth's bearer() plugin gives it out.

    The bare token, too, where ``BETTER_AUTH_BEARER_REQUIRE_SIGNATURE`` is off.
    """

    name = "bearer"

    def offered(self, request: Request) -> list[str]:
        return _bearers(request, dots=(1,) if conf.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE else (0, 1))

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        if "." in value:
            return _signed(value, attempt)
        throttling.check_address(attempt.request)  # the look-up alone will tell
        token = session_tokens.bare(value)
        try:
            return sessions.resolve_token(token, is_signed=False)
        except Refused as refused:
            if refused.session is not None:  # it has a row, so Better Auth issued the token
                attempt.verified_credential = VerifiedCredential.session_token(token)
            raise


class BetterAuthCookieAuthentication(Credential):
    """Better Auth's session cookie, from pages that may send it.

    A browser may send several cookies of one name. After ``crossSubDomainCookies`` was turned on, it may send
    an old cookie of the host and a new one of the domain. We join them with semicolons and treat them as one
    credential.
    """

    name = "cookie"

    def offered(self, request: Request) -> list[str]:
        # Not request.COOKIES: of two with one name it keeps the last, and Better Auth takes the first.
        pairs = [pair.partition("=") for pair in request.META.get("HTTP_COOKIE", "").split(";")]
        name = conf.BETTER_AUTH_COOKIE_NAME
        values = [value.strip(WHITESPACE) for each, _, value in pairs if each.strip(WHITESPACE) == name]
        return [";".join(dict.fromkeys(values))] if values else []

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        # A browser sends cookies along with whatever any page has it send (CSRF). The Origin it adds to
        # every unsafe request is the browser's word and no script's, so no second token is needed.
        origin = attempt.request.META.get("HTTP_ORIGIN")
        if attempt.request.method not in SAFE_METHODS and origin not in conf.BETTER_AUTH_COOKIE_ORIGINS:
            raise OriginRefused
        return _resolve_cookies(value.split(";"), attempt)


@sensitive_variables("values", "value")
def _resolve_cookies(values: list[str], attempt: Attempt) -> Identity:
    """The identity of the one good cookie. Two are refused: a sub-domain may have planted one."""
    if len(values) > MAX_SESSION_COOKIES:
        raise SeveralSessionCookies
    good: dict[str, Identity] = {}  # by session id: one token can be encoded in several ways
    refused: list[tuple[Refused, VerifiedCredential | None]] = []
    for value in values:
        attempt.verified_credential = None
        try:
            identity = _signed(value, attempt)
        except Unavailable:
            raise
        except Refused as exc:
            refused.append((exc, attempt.verified_credential))
        else:
            good[identity.session.id] = identity
    if len(good) > 1:
        attempt.verified_credential = None  # counted by address: each cookie must still work alone
        raise SeveralSessionCookies
    if good:
        return good.popitem()[1]
    refused.sort(key=lambda each: _order(each[0]))
    attempt.verified_credential = refused[0][1]
    try:
        raise refused[0][0]
    finally:
        refused.clear()  # break the cycle exception → traceback → frame → exception


def _order(refused: Refused) -> int:
    """A cookie that was looked up comes first, so that each look-up is counted."""
    return 2 if isinstance(refused, TokenRefused) else 1 if isinstance(refused, TooManyAttempts) else 0


@sensitive_variables("value", "token")
def _signed(value: str, attempt: Attempt) -> Identity:
    token = session_tokens.verify(value)
    attempt.verified_credential = VerifiedCredential.session_token(token)
    throttling.check_token(attempt)
    return sessions.resolve_token(token, is_signed=True)


CREDENTIALS: dict[str, Credential] = {
    each.name: each
    for each in (
        BetterAuthJWTAuthentication(),
        BetterAuthCookieAuthentication(),
        BetterAuthBearerAuthentication(),
    )
}


class BetterAuthAuthentication(BaseAuthentication):
    """Whichever of the ``BETTER_AUTH_CREDENTIALS`` the request carries, and none that is not listed."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        enabled = [CREDENTIALS[name] for name in conf.BETTER_AUTH_CREDENTIALS]
        identified = _authenticate(request, enabled)
        if identified is None and _scheme(request) == "bearer":  # of a kind that is not listed, or of none
            throttling.record(Attempt(request), "malformed", TokenRefused.status_code)
            raise TokenRefused("malformed")
        return identified

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


@sensitive_variables("offered", "value")
def _authenticate(request: Request, credentials: Iterable[Credential]) -> tuple[User, Identity] | None:
    offered = [(each, value) for each in credentials for value in each.offered(request)]
    if not offered:
        return None  # no credentials, or somebody else's; past this line the answer is ours
    credential, value = offered[0]
    attempt = Attempt(request, ",".join(each.name for each, _ in offered))
    try:
        # Behind "Bearer" may also stand what none of these takes: "undefined" is still not the cookie.
        if len(offered) > 1 or (credential.name == "cookie" and _scheme(request) == "bearer"):
            raise TwoCredentials
        identity = credential.identify(value, attempt)
    except TooManyAttempts:
        throttling.signal_without_logging(attempt)
        raise
    except Refused as refused:
        throttling.record(
            attempt,
            refused.reason,
            refused.status_code,
            key_id=refused.key_id,
            algorithm=refused.algorithm,
            session=refused.session,
        )
        raise
    except Exception:
        attempt.log_refused("error", 500)
        raise
    attempt.log_accepted(identity)
    # On Django's request, where DRF's finds it too: middleware and views see the same.
    setattr(request._request, "user_id", identity.user_id)  # noqa: B010
    return identity.user, identity


def _bearers(request: Request, dots: Container[int]) -> list[str]:
    """What stands behind ``Bearer``, if it has so many dots: a JWT two, a signed token one, a bare one none.

    Several headers, which an ASGI server joins with commas, count whatever they hold: which of them was
    meant would be a guess, and a proxy in front of us may have made another one.
    """
    if _scheme(request) != "bearer":
        return []
    values = ANOTHER_BEARER.split(request.META["HTTP_AUTHORIZATION"][len("bearer ") :])
    return [value for value in values if len(values) > 1 or value.count(".") in dots]


def _scheme(request: Request) -> str:
    scheme: str = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")[0]
    return scheme.lower()
