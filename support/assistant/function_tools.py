"""Gives the functions of SUPPORT_TOOLS to the Agents SDK, which calls them for the model."""

from copy import deepcopy
from typing import Any

from agents import FunctionTool
from agents.exceptions import UserError
from agents.strict_schema import ensure_strict_json_schema
from agents.tool_context import ToolContext
from chatkit.agents import AgentContext
from chatkit.types import ProgressUpdateEvent

from support.context import RequestContext
from support.tools import calls
from support.tools.configured import configured
from support.tools.declaration import Tool


def make_function_tools() -> list[FunctionTool]:
    return [_function_tool(tool) for tool in configured().values()]


def _function_tool(tool: Tool) -> FunctionTool:
    # The Agents SDK calls a tool with ``needs_approval`` only after ``RunState.approve``.
    via: calls.Via = "approval" if tool.needs_approval else "chat"

    async def invoke(context: ToolContext[AgentContext[RequestContext]], arguments: str) -> str:
        # The client sees the tool's title. It does not see the arguments.
        await context.context.stream(ProgressUpdateEvent(text=tool.title))
        return (await calls.call(tool, context.context.request_context, arguments, via)).text

    schema, is_strict = _strict(tool.schema.params_json_schema)
    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=schema,
        on_invoke_tool=invoke,
        strict_json_schema=is_strict,
        needs_approval=tool.needs_approval,
    )


def _strict(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the schema in OpenAI's strict form, and whether there is one.

    With a strict schema, the model cannot make up or leave out an argument. It has no form for a ``dict``.
    """
    try:
        return ensure_strict_json_schema(deepcopy(schema)), True
    except UserError:
        return schema, False
