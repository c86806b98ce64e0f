"""The tools of the MCP servers, connected for one answer and in one user's name."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from agents import Agent, RunContextWrapper, UserError
from agents.mcp import MCPServer, MCPServerStreamableHttp
from chatkit.errors import CustomStreamError
from chatkit.types import NoticeEvent, ProgressUpdateEvent, ThreadStreamEvent
from mcp.types import CallToolResult, ContentBlock, TextContent

from support.assistant.mcp.servers import ToolServer, configured

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = (
    5  # to connect and list the tools: so much later a dead server lets the answer begin
)
CALL_TIMEOUT_SECONDS = 30
CLOSE_TIMEOUT_SECONDS = 1
MAX_IDLE_SECONDS = 1  # a connection idle for longer is not used again: its server may be closing it just then
MAX_LIST_PAGES = 10
MAX_OUTPUT_LENGTH = 20_000  # of what a tool says; the model pays by the word
TITLE_LENGTH = 80

SendEvent = Callable[[ThreadStreamEvent], Awaitable[None]]


@asynccontextmanager
async def connected(user_id: str, send_event: SendEvent) -> AsyncIterator[list[MCPServer]]:
    """The servers that answer. ``send_event`` is told of the others, and of every call."""
    servers = [Connection(server, user_id, send_event) for server in configured()]
    try:
        answers = await asyncio.gather(*(server.opens() for server in servers))
        yield [server for server, answered in zip(servers, answers, strict=True) if answered]
    finally:
        await asyncio.gather(*(server.close() for server in servers))


async def require_first_call(agent: Agent[Any], name: str | None, context: Any) -> None:
    """Have the agent call this tool first. Raises ``CustomStreamError`` if there is none of that name."""
    if name is None:
        return
    if name not in {tool.name for tool in await agent.get_mcp_tools(RunContextWrapper(context))}:
        told = "The tool that you picked is not available. Pick another one, or none."
        raise CustomStreamError(told, allow_retry=True)  # its server may be back by then
    agent.model_settings.tool_choice = name


class Connection(MCPServerStreamableHttp):
    def __init__(self, server: ToolServer, user_id: str, send_event: SendEvent) -> None:
        self._auth = CallerAuth(user_id, server)
        super().__init__(
            {"url": server.url, "auth": self._auth, "httpx_client_factory": http_client},
            name=server.name,
            cache_tools_list=True,
            client_session_timeout_seconds=CALL_TIMEOUT_SECONDS,
            max_list_pages=MAX_LIST_PAGES,
            failure_error_function=_as_the_model_is_told,
        )
        self._send_event = send_event
        self._failure_was_sent = False
        self._titles: dict[str, str] = {}
        self._required: dict[str, set[str]] = {}

    async def opens(self) -> bool:
        """Connect and list the tools; ``False`` if the server is not able to."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self.connect()  # type: ignore[no-untyped-call]
                for tool in await self.list_tools():
                    annotated = tool.annotations and tool.annotations.title
                    self._titles[tool.name] = tool.title or annotated or tool.name.replace("_", " ")
                    self._required[tool.name] = set(tool.input_schema.get("required") or ())
        except Exception as exc:
            await self._failed("cannot be reached", exc)
            return False
        return True

    async def call_tool(
        self, tool_name: str, arguments: dict[str, Any] | None, meta: dict[str, Any] | None = None
    ) -> CallToolResult:
        # What the tool is called with stays between the model and the server.
        title = " ".join(self._titles.get(tool_name, "").split())[:TITLE_LENGTH]
        await self._send_event(ProgressUpdateEvent(text=title or self.name))
        try:
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                result = await super().call_tool(tool_name, arguments, meta)
        except Exception as exc:
            if self._required.get(tool_name, set()) <= set(arguments or {}):  # else it is the model's fault
                await self._failed("failed in a call", exc)
            raise
        return _bearable(result)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.cleanup()  # type: ignore[no-untyped-call]
        except Exception as exc:
            logger.warning("MCP server %s did not let go: %s", self.name, type(exc).__name__)

    async def _failed(self, how: str, exc: Exception) -> None:
        # Not the error's text, which may be the server's: what it was asked, or what it knows of somebody.
        kind, status = type(exc).__name__, self._auth.status
        logger.warning("MCP server %s %s: %s, last HTTP status %s", self.name, how, kind, status)
        if not self._failure_was_sent:
            self._failure_was_sent = True
            message = f"The tools of “{self.name}” are not available at the moment."
            await self._send_event(NoticeEvent(level="warning", message=message))


def http_client(
    headers: dict[str, str] | None = None, timeout: Any = None, auth: httpx2.Auth | None = None
) -> httpx2.AsyncClient:
    limits = httpx2.Limits(keepalive_expiry=MAX_IDLE_SECONDS)
    return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, limits=limits)


class CallerAuth(httpx2.Auth):
    """A new token for each request, so that none is ever too old. ``status``: of the last response."""

    def __init__(self, user_id: str, server: ToolServer) -> None:
        self._user_id, self._server = user_id, server
        self.status: int | None = None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        if self._server.secret:
            request.headers["Authorization"] = f"Bearer {self._server.token_for(self._user_id)}"
        response = yield request
        self.status = response.status_code


def _bearable(result: CallToolResult) -> CallToolResult:
    """Cut to MAX_OUTPUT_LENGTH in all; what is neither text nor picture counts as the JSON it is told as."""
    kept: list[ContentBlock] = []
    left = MAX_OUTPUT_LENGTH
    for part in result.content:
        if part.type != "image":
            text = part.text if part.type == "text" else part.model_dump_json()
            if len(text) > left:
                kept.append(TextContent(type="text", text=f"{text[:left]} … (cut off here)"))
                break
            left -= len(text)
        kept.append(part)
    return result.model_copy(update={"content": kept})


def _as_the_model_is_told(context: RunContextWrapper[Any], exc: Exception) -> str:
    reason = str(exc) if isinstance(exc, UserError) else "The tool is not available at the moment."
    return f"This did not work, and nothing is known of its effect. {reason}"
