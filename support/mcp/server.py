"""The MCP server. django-mcpz speaks the protocol, and this module runs the tools.

django-mcpz turns each exception of a tool into a result for the model. But some must become an HTTP status.
``_call`` keeps these in ``Caller.failures``, and ``respond`` raises them after django-mcpz has ended.
"""

from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django_mcpz.server import MCPServer, ToolError

from authn.errors import InsufficientScope
from authn.jwt.access_tokens import AccessToken
from runtime.deferred_response import wait_for_response
from support.conf import conf
from support.files import signed_urls
from support.mcp import ask, resource, tools
from support.tools import calls
from support.tools.declaration import Tool

INSTRUCTIONS = "These tools act for the user who has connected this client. They see only this user's data."
# A call may take minutes, and the chat waits only for the first event of an answer. So that many calls do not
# stop the chat, they leave it half of the threads that may wait.
SHARE_OF_WAITING = 0.5
CALLER = "mcp_caller"  # the attribute of a request with its ``Caller``


@dataclass(slots=True)
class Caller:
    """The user of a request.

    ``access_token``: ``None`` if the credential is a token of the user's own session, which has every scope.
    ``failures``: an exception that the view must raise. ``closed``: the response if the client has left.
    """

    user_id: str
    context: Any
    access_token: AccessToken | None
    failures: list[Exception] = field(default_factory=list)
    closed: HttpResponseBase | None = None


def respond(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Return the response to an MCP request. Raises ``InsufficientScope`` and ``TooManyWaiting``."""
    setattr(request, CALLER, caller)
    try:
        response = _server(tuple(conf.SUPPORT_TOOLS), tuple(conf.SUPPORT_MCP_TOOLS))(request)
    finally:
        delattr(request, CALLER)
    if caller.failures:
        raise caller.failures.pop()
    return caller.closed or response


class _Server(MCPServer):
    def _origin_allowed(self, request: HttpRequest) -> bool:
        # The view has checked the origin. django-mcpz allows the hosts of ALLOWED_HOSTS: with any port, and
        # without the pages of CORS_ALLOWED_ORIGINS.
        return True


@cache
def _server(*setting: tuple[str, ...]) -> MCPServer:
    """Return the server with the offered tools. ``setting``: the settings that choose them."""
    server = _Server(
        name="support",
        title=resource.NAME,
        version="1",
        instructions=INSTRUCTIONS,
        auth=lambda request: None,  # the view has authenticated the caller
    )
    for tool in tools.offered().values():
        server.tool(
            name=tool.name,
            title=tool.title,
            description=tool.description,
            input_schema=tool.schema.params_json_schema,
            read_only=True if tool.is_read_only else None,
            destructive=True if tool.needs_approval else None,
        )(partial(_call, tool))
    return server


def _call(tool: Tool, request: HttpRequest, arguments: dict[str, Any]) -> Any:
    """Run the tool and return its result for django-mcpz. Raises django-mcpz's ``ToolError``."""
    caller: Caller = getattr(request, CALLER)
    try:
        result = _result(tool, request, arguments, caller)
    except Exception as exc:
        caller.failures.append(exc)
        raise ToolError from None
    if result is None or result.is_error:
        raise ToolError(result.text if result else "")
    return _structured(result.text)


def _result(
    tool: Tool, request: HttpRequest, arguments: dict[str, Any], caller: Caller
) -> calls.Result | None:
    """Return the result, or ``None`` if the client has left."""
    if tool.scope and caller.access_token and tool.scope not in caller.access_token.scopes:
        # Also name the scopes that the client has now. A client that asks for one scope loses the others.
        granted = caller.access_token.scopes & set(tools.scopes_supported())
        raise InsufficientScope({tool.scope} | granted, resource.metadata_url())
    results: list[calls.Result] = []

    async def call() -> HttpResponse:
        ask.current_user_id.set(caller.user_id)
        # The assistant may not do for a client what the client itself may not do.
        granted = caller.access_token.scopes if caller.access_token else None
        former = calls.client_scopes.set(granted)
        try:
            results.append(await calls.call(tool, caller.context, arguments, "mcp"))
        finally:
            calls.client_scopes.reset(former)  # under WSGI, the thread keeps it for its next request
        return HttpResponse()

    with signed_urls.use_host_of(request):
        response = wait_for_response(request, call, SHARE_OF_WAITING)
    if not results:
        caller.closed = response
        return None
    return results[0]


def _structured(text: str) -> Any:
    """Return the text. If it is a JSON object, return it in the form that django-mcpz also sends as JSON."""
    if text.startswith("{"):
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
        return msgspec.Raw(text.encode())
    return text
