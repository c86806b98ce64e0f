"""Connects to the MCP servers for one answer to one user, and calls their tools.

The answer goes on if a server fails. The user then gets a notice, and each call gives the model an error.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx2
from agents import RunContextWrapper, UserError
from agents.mcp import MCPServer, MCPServerStreamableHttp
from chatkit.types import NoticeEvent, ProgressUpdateEvent, ThreadStreamEvent
from mcp.types import CallToolResult, ContentBlock, TextContent

from support.assistant.mcp_servers.servers import ToolServer, configured
from support.context import RequestContext
from support.tools.calls import CUT_OFF, MAX_OUTPUT_LENGTH, UNKNOWN_EFFECT

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 5  # for connecting and listing the tools; the answer starts after that
CALL_TIMEOUT_SECONDS = 30
CLOSE_TIMEOUT_SECONDS = 1
MAX_IDLE_SECONDS = 1  # a connection that was idle for longer is not used again: its server may be closing it
MAX_LIST_PAGES = 10  # of the list of one server's tools
MAX_TITLE_LENGTH = 80  # characters of a tool's title

SendEvent = Callable[[ThreadStreamEvent], Awaitable[None]]


@asynccontextmanager
async def connect(context: RequestContext, send_event: SendEvent) -> AsyncIterator[list[MCPServer]]:
    """Connect to all servers and yield those that answer. The client gets a notice of each other server."""
    connections = [Connection(server, context, send_event) for server in configured()]
    try:
        are_open = await asyncio.gather(*(connection.open() for connection in connections))
        yield [connection for connection, is_open in zip(connections, are_open, strict=True) if is_open]
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


class Connection(MCPServerStreamableHttp):
    """The Agents SDK's MCP client for one server, with our timeouts, notices and limits."""

    def __init__(self, server: ToolServer, context: RequestContext, send_event: SendEvent) -> None:
        self._caller_auth = CallerAuth(context, server)
        super().__init__(
            {"url": server.url, "auth": self._caller_auth, "httpx_client_factory": http_client},
            name=server.name,
            cache_tools_list=True,
            client_session_timeout_seconds=CALL_TIMEOUT_SECONDS,
            max_list_pages=MAX_LIST_PAGES,
            failure_error_function=_error_for_model,
        )
        self._send_event = send_event
        self._failure_was_sent = False
        self._titles: dict[str, str] = {}
        self._required: dict[str, set[str]] = {}

    async def open(self) -> bool:
        """Connect and list the tools. Returns whether this worked."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self.connect()  # type: ignore[no-untyped-call]
                for tool in await self.list_tools():
                    annotated = tool.annotations and tool.annotations.title
                    self._titles[tool.name] = tool.title or annotated or tool.name.replace("_", " ")
                    self._required[tool.name] = set(tool.input_schema.get("required") or ())
        except Exception as exc:
            await self._report_failure("cannot be reached", exc)
            return False
        return True

    async def call_tool(
        self, tool_name: str, arguments: dict[str, Any] | None, meta: dict[str, Any] | None = None
    ) -> CallToolResult:
        # The client sees the tool's title. It does not see the arguments.
        title = " ".join(self._titles.get(tool_name, "").split())[:MAX_TITLE_LENGTH]
        await self._send_event(ProgressUpdateEvent(text=title or self.name))
        try:
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                result = await super().call_tool(tool_name, arguments, meta)
        except Exception as exc:
            # If the model left out a required argument, the model made the mistake. So there is no notice.
            if self._required.get(tool_name, set()) <= set(arguments or {}):
                await self._report_failure("failed in a call", exc)
            raise
        return _shortened(result)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.cleanup()  # type: ignore[no-untyped-call]
        except Exception as exc:
            logger.warning("MCP server %s did not close its connection: %s", self.name, type(exc).__name__)

    async def _report_failure(self, what: str, exc: Exception) -> None:
        # Do not log the error's text: the server may have written the arguments or personal data into it.
        kind, status = type(exc).__name__, self._caller_auth.status
        logger.warning("MCP server %s %s: %s, last HTTP status %s", self.name, what, kind, status)
        if not self._failure_was_sent:
            self._failure_was_sent = True
            message = f"The tools of “{self.name}” are not available at the moment."
            await self._send_event(NoticeEvent(level="warning", message=message))


def http_client(
    headers: dict[str, str] | None = None, timeout: Any = None, auth: httpx2.Auth | None = None
) -> httpx2.AsyncClient:
    limits = httpx2.Limits(keepalive_expiry=MAX_IDLE_SECONDS)
    return httpx2.AsyncClient(
        headers=headers, timeout=timeout, auth=auth, limits=limits, verify=_tls_context()
    )


@cache
def _tls_context() -> ssl.SSLContext:
    """One for the process. To make one takes 20 ms, in which the event loop can do nothing else."""
    return httpx2.create_ssl_context()


class CallerAuth(httpx2.Auth):
    """Sends a new token with each HTTP request, so that no token expires while it is used.

    All tokens of an answer name the organization that was active when the user sent the message.
    ``status``: the HTTP status of the last response.
    """

    def __init__(self, context: RequestContext, server: ToolServer) -> None:
        # A team's own context may have no organization.
        self._user_id, self._organization = context.user_id, getattr(context, "organization", None)
        self._server = server
        self.status: int | None = None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        if self._server.secret:
            token = self._server.token_for(self._user_id, self._organization)
            request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        self.status = response.status_code


def _shortened(result: CallToolResult) -> CallToolResult:
    """Return the result, cut after MAX_OUTPUT_LENGTH characters.

    Pictures are not counted. Parts that are neither text nor pictures count with their length as JSON.
    """
    kept: list[ContentBlock] = []
    left = MAX_OUTPUT_LENGTH
    for part in result.content:
        if part.type != "image":
            text = part.text if part.type == "text" else part.model_dump_json()
            if len(text) > left:
                kept.append(TextContent(type="text", text=text[:left] + CUT_OFF))
                break
            left -= len(text)
        kept.append(part)
    return result.model_copy(update={"content": kept})


def _error_for_model(context: RunContextWrapper[Any], exc: Exception) -> str:
    reason = str(exc) if isinstance(exc, UserError) else "The tool is not available at the moment."
    return f"{UNKNOWN_EFFECT} {reason}"
