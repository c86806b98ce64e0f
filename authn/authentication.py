"""DRF's side of it: from a request's header to ``request.user``, ``request.auth`` and ``request.user_id``."""

from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from authn import sessions, tokens
from authn.audit import Attempt
from authn.errors import Refused
from authn.models import User
from authn.sessions import Identity


class BetterAuthJWTAuthentication(BaseAuthentication):
    """``Authorization: Bearer <JWT from Better Auth's jwt() plugin>``.

    Gives ``request.user`` (``authn.models.User``), ``request.auth`` (``Identity``) and
    ``request.user_id`` (``str``).
    """

    @sensitive_variables("token")
    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None  # no credentials, or somebody else's scheme; past this line the answer is ours
        attempt = Attempt(request)
        try:
            attempt.claims = claims = tokens.verify(token)
            identity = sessions.resolve(claims)
        except Refused as refused:
            attempt.refused(refused.reason, refused.status_code, refused.key_id, refused.algorithm)
            raise
        except Exception:
            attempt.refused("error", 500)
            raise
        attempt.accepted(identity)
        # On Django's request, where DRF's finds it too: middleware and views see the same.
        setattr(request._request, "user_id", identity.user_id)  # noqa: B010
        return identity.user, identity

    def authenticate_header(self, request: Request) -> str:
        # Without it DRF answers 403 in place of 401.
        return 'Bearer realm="chatbackend"'
