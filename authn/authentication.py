"""DRF authentication classes. They set ``request.user``, ``request.auth`` and ``request.user_id``."""

import re
from collections.abc import Container, Iterable
from typing import cast

from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from authn import sessions, throttling
from authn.audit import Attempt
from authn.conf import conf
from authn.credentials import session_tokens
from authn.credentials.verified_credential import VerifiedCredential
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
from authn.models import Session, User
from authn.sessions import Identity

# The whitespace of RFC 6265 §5.2 (WSP). Python's strip() without arguments also removes \xa0 and \x85. A
# browser lets a page without https set a cookie named "\xa0__Secure-…", and strip() would turn that into the
# name of our cookie.
WHITESPACE = " \t"
# A browser may have one cookie with the same name for the host, and one for each parent domain.
MAX_SESSION_COOKIES = 4
NEXT_BEARER = re.compile(r", *bearer ", re.IGNORECASE)


def challenge(**parameters: str) -> str:
    """Returns the header WWW-Authenticate of a 401. Without it, DRF responds with 403 instead."""
    pairs = {"realm": conf.BETTER_AUTH_REALM} | parameters
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in pairs.items())


class Credential(BaseAuthentication):
    """Base class for one kind of credential. It ignores credentials of other kinds.

    Sets ``request.user`` (``authn.models.User``), ``request.auth`` (``Identity``) and ``request.user_id``
    (``str``).
    """

    name: str

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        return _authenticate(request, [self])

    def authenticate_header(self, request: Request) -> str:
        return challenge()

    def find(self, request: Request) -> list[str]:
        """Returns the request's credentials of this kind."""
        raise NotImplementedError

    def identify(self, value: str, attempt: Attempt) -> Identity:
        """Returns the user and session of a credential that ``find`` returned. Raises ``Refused``."""
        raise NotImplementedError


class BetterAuthJWTAuthentication(Credential):
    """Accepts ``Authorization: Bearer <JWT>``, with a JWT of Better Auth's jwt() plugin."""

    name = "jwt"

    def find(self, request: Request) -> list[str]:
        return bearers(request, dots=(2,))

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        try:
            attempt.claims = claims = tokens.verify(value)
        except TokenRefused as refused:
            attempt.verified_credential = VerifiedCredential.refused_jwt(refused.verified_payload)
            raise
        attempt.verified_credential = VerifiedCredential.jwt(claims.session_id, claims.subject, value)
        throttling.check_token(attempt)
        return sessions.resolve(claims)


class BetterAuthBearerAuthentication(Credential):
    """Accepts ``Authorization: Bearer <signed session token>``, as Better Auth's bearer() plugin sends it.

    Accepts a session token without a signature too, if ``BETTER_AUTH_BEARER_REQUIRE_SIGNATURE`` is off.
    """

    name = "bearer"

    def find(self, request: Request) -> list[str]:
        return bearers(request, dots=(1,) if conf.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE else (0, 1))

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        if "." in value:
            return _signed(value, attempt)
        # Only the look-up shows whether Better Auth issued the token. So check the IP address before it.
        throttling.check_address(attempt.request)
        token = session_tokens.check_unsigned(value)
        try:
            return sessions.resolve_token(token, is_signed=False)
        except Refused as refused:
            if refused.session is not None:  # a session has this token, so Better Auth issued the token
                attempt.verified_credential = VerifiedCredential.session_token(token)
            raise


class BetterAuthCookieAuthentication(Credential):
    """Accepts Better Auth's session cookie from a page whose origin is allowed.

    A browser may send several cookies with the same name. For example, after ``crossSubDomainCookies`` is
    turned on in Better Auth, it sends the host's old cookie and the domain's new cookie. ``find`` joins these
    cookies with semicolons, so that they are one credential.
    """

    name = "cookie"

    def find(self, request: Request) -> list[str]:
        # request.COOKIES has only the last of several cookies with the same name. Better Auth uses the first.
        cookies = [cookie.partition("=") for cookie in request.META.get("HTTP_COOKIE", "").split(";")]
        wanted = conf.BETTER_AUTH_COOKIE_NAME
        values = [value.strip(WHITESPACE) for name, _, value in cookies if name.strip(WHITESPACE) == wanted]
        return [";".join(dict.fromkeys(values))] if values else []

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        # Protect against CSRF: any page can make a browser send a request with our cookie. The browser adds
        # the header Origin to every unsafe request, and no script can change it. So no CSRF token is needed.
        origin = attempt.request.META.get("HTTP_ORIGIN")
        if attempt.request.method not in SAFE_METHODS and origin not in conf.BETTER_AUTH_COOKIE_ORIGINS:
            raise OriginRefused
        return _resolve_cookies(value.split(";"), attempt)


@sensitive_variables("values", "value")
def _resolve_cookies(values: list[str], attempt: Attempt) -> Identity:
    """Returns the identity of the only valid cookie.

    Raises ``SeveralSessionCookies`` if two cookies are valid: a sub-domain of an attacker may have set one.
    """
    if len(values) > MAX_SESSION_COOKIES:
        raise SeveralSessionCookies
    valid: dict[str, Identity] = {}  # by session id, because one token has several encodings
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
            valid[cast(Session, identity.session).id] = identity
    if len(valid) > 1:
        # Count this attempt for the IP address and not for a cookie: each cookie alone is still valid.
        attempt.verified_credential = None
        raise SeveralSessionCookies
    if valid:
        return valid.popitem()[1]
    refused.sort(key=lambda each: _priority(each[0]))
    attempt.verified_credential = refused[0][1]
    try:
        raise refused[0][0]
    finally:
        refused.clear()  # break the reference cycle exception → traceback → frame → exception


def _priority(refused: Refused) -> int:
    """Returns the sort key of a refused cookie. The attempt is counted for the first cookie in this order.

    Cookies that were looked up come first (0), so that each attempt with a look-up counts for a credential.
    Then come blocked cookies (1), and then cookies without a valid signature (2).
    """
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
    """Accepts every kind of credential that ``BETTER_AUTH_CREDENTIALS`` lists."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        enabled = [CREDENTIALS[name] for name in conf.BETTER_AUTH_CREDENTIALS]
        identified = _authenticate(request, enabled)
        # The request has a Bearer header, but the header's value is of no listed kind.
        if identified is None and _scheme(request) == "bearer":
            throttling.record(Attempt(request), "malformed", TokenRefused.status_code)
            raise TokenRefused("malformed")
        return identified

    def authenticate_header(self, request: Request) -> str:
        return challenge()


@sensitive_variables("found", "value")
def _authenticate(request: Request, credentials: Iterable[Credential]) -> tuple[User, Identity] | None:
    found = [(each, value) for each in credentials for value in each.find(request)]
    if not found:
        return None  # DRF then asks the next authentication class
    credential, value = found[0]
    attempt = Attempt(request, ",".join(each.name for each, _ in found))
    try:
        # A cookie together with a Bearer header is refused, even if the header's value is of no known kind,
        # such as "undefined".
        if len(found) > 1 or (credential.name == "cookie" and _scheme(request) == "bearer"):
            raise TwoCredentials
        identity = credential.identify(value, attempt)
    except TooManyAttempts:
        throttling.report_to_metrics(attempt)
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
    # Set user_id on Django's request, so that middleware can read it. DRF's request reads it from there too.
    setattr(request._request, "user_id", identity.user_id)  # noqa: B010
    return identity.user, identity


def bearers(request: Request, dots: Container[int] | None = None) -> list[str]:
    """Returns the values after ``Bearer`` that have one of these numbers of dots. ``None``: any number.

    A JWT has two dots, a signed session token has one dot, and an unsigned session token has none.

    If a request has several Authorization headers, the ASGI server joins them with commas. Then this returns
    all values, with any number of dots, and the request is refused: a proxy may have used another header than
    we would.
    """
    if _scheme(request) != "bearer":
        return []
    values = NEXT_BEARER.split(request.META["HTTP_AUTHORIZATION"][len("bearer ") :])
    return [value for value in values if len(values) > 1 or dots is None or value.count(".") in dots]


def _scheme(request: Request) -> str:
    scheme: str = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")[0]
    return scheme.lower()
