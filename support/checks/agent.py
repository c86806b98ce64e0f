"""Checks of SUPPORT_AGENT. The agent that a function returns is checked when it answers."""

import inspect
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from support.conf import conf


def _agent() -> list[CheckMessage]:
    if not conf.SUPPORT_AGENT:
        return []  # the import of the Agents SDK would add two seconds to each manage.py command
    from agents import Agent

    try:
        named = import_string(conf.SUPPORT_AGENT)
    except Exception as exc:  # the team's module may raise any exception
        hint = "Write the dotted path of an agent, or of a function, such as shop.agents.support."
        return [Error(f"SUPPORT_AGENT cannot be imported: {exc}", hint=hint, id="support.E020")]
    if isinstance(named, Agent):
        return [*_errors(named), *_warnings(named), *_titles()]
    if _takes_context(named):
        return _titles()
    hint = "Name an Agent of the Agents SDK, or a function that takes the RequestContext and returns one."
    fault = f"SUPPORT_AGENT names a {type(named).__name__}, not an agent or a function of one argument."
    return [Error(fault, hint=hint, id="support.E021")]


def _takes_context(named: Any) -> bool:
    if not callable(named) or inspect.isclass(named):
        return False
    try:
        inspect.signature(named).bind(None)
    except (TypeError, ValueError):  # wrong parameters, or no signature
        return False
    return True


def _errors(agent: Any) -> list[CheckMessage]:
    from support.assistant import configured_agent

    errors = [
        (
            "E022",
            configured_agent.tools_of_responses_only,
            "Set SUPPORT_MODEL_API=responses, and use a provider whose Responses API runs these tools.",
        ),
        ("E023", configured_agent.clashing_tools, "Rename one of the tools, or list it once."),
        (
            "E024",
            configured_agent.missing_models,
            "Set SUPPORT_MODEL, or name a model in each agent. Also set OPENAI_API_KEY or OPENAI_BASE_URL.",
        ),
    ]
    return [
        Error(f"SUPPORT_AGENT: {problem}", hint=hint, id=f"support.{number}")
        for number, find, hint in errors
        for problem in find(agent)
    ]


def _warnings(agent: Any) -> list[CheckMessage]:
    from support.assistant import configured_agent

    agents = [*configured_agent.reachable(agent)]
    speakers = [*configured_agent.reachable(agent, with_tools=False)]
    warnings = [
        (
            "W020",
            configured_agent.local_tools(agent),
            "can run commands outside of OpenAI, and a user's text decides what it runs",
            "Remove it, or run it in a sandbox and silence support.W020.",
        ),
        (
            "W021",
            [each.name for each in speakers if each.output_type not in (None, str)],
            "has an output_type, so the user reads JSON",
            "Remove output_type, or let another agent call this one as a tool (Agent.as_tool).",
        ),
        (
            "W022",
            [each.name for each in agents if each.mcp_servers],
            "has mcp_servers, which the backend does not connect",
            "List the servers in SUPPORT_MCP_SERVERS: each answer connects to them as its user.",
        ),
        (
            "W024",
            [agent.name] if conf.SUPPORT_INSTRUCTIONS and (agent.instructions or agent.prompt) else [],
            "has instructions of its own, so those of the settings are not used",
            "Remove SUPPORT_INSTRUCTIONS and SUPPORT_INSTRUCTIONS_FILE.",
        ),
    ]
    return [
        CheckWarning(f"SUPPORT_AGENT: {name} {fault}.", hint=hint, id=f"support.{number}")
        for number, names, fault, hint in warnings
        for name in names
    ]


def _titles() -> list[CheckMessage]:
    if conf.SUPPORT_TITLE_MODEL:
        return []
    hint = "Set SUPPORT_TITLE_MODEL to a small model, or silence support.W023."
    return [CheckWarning("Conversations get no titles: no model is set.", hint=hint, id="support.W023")]


CHECKS = (_agent,)
