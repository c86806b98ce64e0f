"""The DRF authentication class of an endpoint for OAuth clients, such as MCP clients."""

from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request

from authn import throttling
from authn.audit import Attempt
from authn.authentication import BetterAuthJWTAuthentication, Credential, bearers, challenge
from authn.conf import conf
from authn.credentials.verified_credential import VerifiedCredential
from authn.errors import NoActiveSession, TokenRefused, UserNotFound
from authn.jwt import access_tokens
from authn.oauth import opaque_tokens, resolving
from authn.sessions import Identity

PLUGIN = "oauth-provider"


class OAuthAccessTokenAuthentication(Credential):
    """Accepts ``Authorization: Bearer <access token>``, with an access token for one resource.

    A view creates it in ``get_authenticators()``, because it needs the view's own resource. It accepts no
    cookie and no session token, and ignores a cookie that comes with the request.

    ``resource``: the URL of the endpoint, exactly as the metadata document and Better Auth's option
    ``resource`` write it. ``metadata_url``: of the metadata document. ``scopes``: what a client should ask
    the user for, if it has no token. ``accept_session_tokens``: also accept JWTs of the jwt() plugin. All of
    our endpoints accept these, so a client that gets one can also use the chat.
    """

    name = "oauth"

    def __init__(
        self,
        resource: str,
        metadata_url: str,
        *,
        scopes: Iterable[str] = (),
        accept_session_tokens: bool = False,
    ) -> None:
        if PLUGIN not in conf.BETTER_AUTH_PLUGINS:
            raise ImproperlyConfigured(
                f"OAuth access tokens need the {PLUGIN} plugin, which BETTER_AUTH_PLUGINS does not list."
            )
        self.resource, self.metadata_url, self.scopes = resource, metadata_url, sorted(scopes)
        self.accept_session_tokens = accept_session_tokens

    def authenticate_header(self, request: Request) -> str:
        scope = {"scope": " ".join(self.scopes)} if self.scopes else {}
        return challenge(resource_metadata=self.metadata_url, **scope)

    def find(self, request: Request) -> list[str]:
        return bearers(request)

    @sensitive_variables("value")
    def identify(self, value: str, attempt: Attempt) -> Identity:
        if opaque_tokens.is_opaque(value):
            return self._identify_opaque(value, attempt)
        try:
            attempt.claims = token = access_tokens.verify(value, self.resource)
        except TokenRefused as refused:
            if refused.reason == "not_an_access_token" and self.accept_session_tokens:
                return _identify_session_token(value, attempt)
            attempt.verified_credential = VerifiedCredential.refused_jwt(refused.verified_payload)
            raise
        attempt.verified_credential = VerifiedCredential.jwt(token.session_id, token.subject, value)
        throttling.check_token(attempt)
        return resolving.resolve(token)

    @sensitive_variables("value")
    def _identify_opaque(self, value: str, attempt: Attempt) -> Identity:
        # Only the look-up shows whether Better Auth issued the token. So check the IP address before it.
        throttling.check_address(attempt.request)
        row = opaque_tokens.look_up(value)
        attempt.verified_credential = VerifiedCredential.access_token(value)
        attempt.claims = token = opaque_tokens.verify(row, self.resource)
        return resolving.resolve(token)


@sensitive_variables("value")
def _identify_session_token(value: str, attempt: Attempt) -> Identity:
    attempt.credential = BetterAuthJWTAuthentication.name
    try:
        return BetterAuthJWTAuthentication().identify(value, attempt)
    except (NoActiveSession, UserNotFound) as refused:
        # An OAuth client understands only a 401. In MCP, a 404 means that the protocol's session has ended.
        raise TokenRefused(refused.reason, session=refused.session) from refused
