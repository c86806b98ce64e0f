"""The tools that the endpoint offers: those of SUPPORT_TOOLS, and our own."""

from dataclasses import replace
from functools import cache

from support.conf import conf
from support.mcp import ask, conversations
from support.tools.configured import configured
from support.tools.declaration import Tool, make_tool


def offered() -> dict[str, Tool]:
    """Return the tools by their names. The system checks have validated the settings."""
    chosen = {name: tool for name, tool in own_tools().items() if name in conf.SUPPORT_MCP_TOOLS}
    return configured() | chosen


def scopes_supported() -> list[str]:
    """Return all scopes that a client may need."""
    return sorted({tool.scope for tool in offered().values() if tool.scope})


@cache
def own_tools() -> dict[str, Tool]:
    readers = (conversations.list_conversations, conversations.read_conversation)
    tools = [make_tool(function) for function in readers]
    tools.append(replace(make_tool(ask.ask_assistant), timeout_seconds=ask.TIMEOUT_SECONDS))
    return {tool.name: tool for tool in tools}
