"""``POST /support/mcp``: authenticates an MCP client, checks its request and passes it to the MCP server."""

import logging
from typing import Any, cast

from django.db import transaction
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from pydantic_core import from_json
from rest_framework.exceptions import ParseError, PermissionDenied, UnsupportedMediaType
from rest_framework.request import Request

from authn.errors import Unavailable
from authn.oauth.authentication import OAuthAccessTokenAuthentication
from authn.sessions import Identity
from runtime.worker_threads import TooManyWaiting
from support.api_view import NO_STORE, MeasuredView
from support.chat import protocol, server_errors
from support.chat.configured_server import context_builder
from support.conf import conf
from support.mcp import resource, tools
from support.mcp.server import Caller, respond
from support.throttling import PerUserThrottle

logger = logging.getLogger(__name__)

# The operation of each MCP method, for metrics. All other methods are OTHER.
OPERATIONS = {
    "initialize": "mcp.initialize",
    "server/discover": "mcp.discover",
    "tools/list": "mcp.tools_list",
    "tools/call": "mcp.tools_call",
}
OTHER = "mcp.other"


class OriginNotAllowed(PermissionDenied):
    default_detail = "The Origin of this page is not allowed"


# With ATOMIC_REQUESTS, a waiting view would be in a transaction, as in ``ChatKitView``.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class MCPView(MeasuredView):
    """MCP's streamable HTTP transport without sessions and streams. Each request stands alone."""

    http_method_names = ["post"]
    schema = None  # not in the API contract: ``tools/list`` describes the tools
    throttle_classes = [PerUserThrottle]

    def get_authenticators(self) -> list[Any]:
        return [
            OAuthAccessTokenAuthentication(
                resource.url(),
                resource.metadata_url(),
                scopes=tools.scopes_supported(),
                accept_session_tokens=conf.SUPPORT_MCP_ACCEPT_SESSION_TOKENS,
            )
        ]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not resource.allows_origin(request.META.get("HTTP_ORIGIN")):
            logger.info("MCP request refused: its Origin is not in CORS_ALLOWED_ORIGINS")
            raise OriginNotAllowed
        super().initial(request, *args, **kwargs)

    def post(self, request: Request) -> HttpResponseBase:
        self.operation = _operation(_message(request))
        identity = cast(Identity, request.auth)
        try:
            with server_errors.refusals_as_api_exceptions():
                context = context_builder()(request)
            response = respond(request._request, Caller(identity.user_id, context, identity.access_token))
        except TooManyWaiting as exc:
            raise Unavailable from exc
        for name, value in NO_STORE.items():
            response.headers.setdefault(name, value)
        return response


def _message(request: Request) -> Any:
    """Return the parsed body, before django-mcpz parses it again.

    Raises ``UnsupportedMediaType`` and ``ParseError``, and Django's exception for a body that is too long.
    """
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(media_type, "The Content-Type is not application/json")
    try:
        message = from_json(request.body, allow_inf_nan=False)
    except ValueError:
        # Also the error for more than 200 levels. django-mcpz would raise RecursionError for a thousand.
        raise ParseError("The request is not valid JSON, or is nested too deeply") from None
    if protocol.has_nul(message):  # PostgreSQL cannot store it
        raise ParseError("The request contains a NUL character")
    return message


def _operation(message: Any) -> str:
    method = message.get("method") if isinstance(message, dict) else None
    return OPERATIONS.get(method, OTHER) if isinstance(method, str) else OTHER
