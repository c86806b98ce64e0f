"""The agent that SUPPORT_AGENT names: a team's ``Agent``, or a function that returns one for a context."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from agents import Agent, FunctionTool, Handoff, Model, RunConfig, trace
from agents.mcp import MCPServer
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from runtime.database_calls import on_database
from support.assistant import function_tools
from support.assistant.instructions import make_instructions
from support.assistant.provider import client
from support.assistant.provider.run_models import RunModels
from support.conf import conf
from support.context import RequestContext
from support.tools.configured import configured

# These tools may run commands, change files or control a browser. The team's code does it, and not OpenAI.
LOCAL_TOOLS = ("ComputerTool", "LocalShellTool", "ShellTool", "ApplyPatchTool")


def run_config() -> RunConfig:
    """Return the settings for a run that a team's own code starts, such as a guardrail with an agent.

    The run's models use our client, and its trace obeys SUPPORT_TRACING.
    """
    return client.make_run_config(RunModels(conf.SUPPORT_MODEL))


async def make(context: RequestContext, servers: list[MCPServer], chosen_model: str) -> Agent[Any]:
    """Return a copy of the team's agent for one answer. The team's own object serves all users.

    ``servers``: the connected servers of SUPPORT_MCP_SERVERS. ``chosen_model``: the user's choice, or empty.
    Raises ``ImproperlyConfigured`` if the agent cannot answer. A team's function may raise any exception.
    """
    agent = await _agent_for(context)
    if problems := [*missing_models(agent), *clashing_tools(agent), *tools_of_responses_only(agent)]:
        raise ImproperlyConfigured(f"SUPPORT_AGENT={conf.SUPPORT_AGENT}: {' '.join(problems)}")
    changes: dict[str, Any] = {"tools": [*agent.tools, *function_tools.make_function_tools()]}
    if servers:
        changes["mcp_servers"] = [*agent.mcp_servers, *servers]
        # As for our own agent: two servers may have tools of the same name.
        changes["mcp_config"] = {**agent.mcp_config, "include_server_in_tool_names": True}
    if agent.instructions is None and agent.prompt is None:
        changes["instructions"] = make_instructions(context.user, context.locale)
    if chosen_model:
        changes["model"] = chosen_model
    copy = agent.clone(**changes)
    copy.model_settings = replace(copy.model_settings)  # ``agent`` may set the tool to call first
    return copy


async def _agent_for(context: RequestContext) -> Agent[Any]:
    named: Any = import_string(conf.SUPPORT_AGENT)
    if not isinstance(named, Agent):
        # Without this trace, an agent that the function runs would send its own to OpenAI.
        with trace("Choose the agent", disabled=not conf.SUPPORT_TRACING):
            is_async = inspect.iscoroutinefunction(named)
            named = named(context) if is_async else await on_database(named)(context)  # it may use the ORM
            if inspect.isawaitable(named):
                named = await named
    if not isinstance(named, Agent):
        kind = type(named).__name__
        raise ImproperlyConfigured(f"SUPPORT_AGENT={conf.SUPPORT_AGENT} returned a {kind}, not an Agent.")
    return named


def reachable(agent: Agent[Any], with_tools: bool = True) -> Iterator[Agent[Any]]:
    """Yield the agent and all agents that it can hand off to. ``with_tools``: also those that it calls."""
    seen: list[Agent[Any]] = []
    found = [agent]
    while found:
        each = found.pop()
        if any(each is other for other in seen):  # two agents may be equal
            continue
        seen.append(each)
        yield each
        handoffs = (_target(handoff) for handoff in each.handoffs)
        called = (getattr(tool, "_agent_instance", None) for tool in each.tools if with_tools)
        found += [other for other in (*handoffs, *called) if isinstance(other, Agent)]


def _target(handoff: Any) -> Any:
    """Return the agent of a handoff. ``handoff(agent)`` of the Agents SDK keeps only a weak reference."""
    reference = getattr(handoff, "_agent_ref", None) if isinstance(handoff, Handoff) else None
    return reference() if reference else handoff


def missing_models(agent: Agent[Any]) -> list[str]:
    """Return sentences about the agents for which no model or no provider is known."""
    agents = [each for each in reachable(agent) if not isinstance(each.model, Model)]
    found = []
    if not conf.SUPPORT_MODEL and (unnamed := [each.name for each in agents if each.model is None]):
        found.append(f"There is no model for {_names(unnamed)}.")
    if agents and not (conf.OPENAI_API_KEY or conf.OPENAI_BASE_URL):
        found.append(f"There is no provider for the model of {_names(each.name for each in agents)}.")
    return found


def clashing_tools(agent: Agent[Any]) -> list[str]:
    """Return sentences about the tools of the agent that have the name of a tool of SUPPORT_TOOLS."""
    names = [tool.name for tool in agent.tools if tool.name in configured()]
    return [f"The agent {agent.name} and SUPPORT_TOOLS both have {_names(names)}."] if names else []


def tools_of_responses_only(agent: Agent[Any]) -> list[str]:
    """Return sentences about the tools that OpenAI runs. Chat Completions has no such tools."""
    if conf.SUPPORT_MODEL_API != "chat_completions":
        return []
    return [
        f"The agent {each.name} has tools that Chat Completions does not have: {_names(names)}."
        for each in reachable(agent)
        if not isinstance(each.model, Model)
        and (names := [tool.name for tool in each.tools if not isinstance(tool, FunctionTool)])
    ]


def local_tools(agent: Agent[Any]) -> list[str]:
    """Return the names of the tools that may run commands outside of OpenAI."""
    return [
        f"{tool.name} of {each.name}"
        for each in reachable(agent)
        for tool in each.tools
        if type(tool).__name__ in LOCAL_TOOLS and getattr(tool, "executor", True) is not None
    ]


def _names(names: Any) -> str:
    return ", ".join(names)
