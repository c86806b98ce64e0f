"""Checks of the settings for the assistant's tools."""

from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from support.assistant.mcp_servers import servers
from support.conf import conf
from support.tools import configured

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


def check_python_tools() -> list[CheckMessage]:
    if not conf.SUPPORT_TOOLS:
        return []  # the import of the Agents SDK would add two seconds to each manage.py command
    hint = (
        "Write the dotted path of a function, or of a module with a list TOOLS. The function takes the "
        "RequestContext first. Its other parameters have types, and it has a docstring."
    )
    return [Error(f"SUPPORT_TOOLS: {fault}", hint=hint, id="support.E015") for fault in configured.problems()]


def _tool_servers() -> list[CheckMessage]:
    if faults := servers.problems(conf.SUPPORT_MCP_SERVERS):
        hint = (
            'Write a JSON list such as [{"name": "todo", "url": "https://todo.example.com/mcp", "secret":'
            ' "…"}]. To make a secret: python -c "import secrets; print(secrets.token_urlsafe(32))".'
        )
        return [Error(f"SUPPORT_MCP_SERVERS: {'; '.join(faults)}.", hint=hint, id="support.E008")]
    unencrypted = [
        server.name
        for server in servers.configured()
        if server.secret
        and urlsplit(server.url).scheme == "http"
        and urlsplit(server.url).hostname not in LOCAL_HOSTS
    ]
    if not unencrypted:
        return []
    hint = "Write an https URL. If the network between is private, silence support.W002."
    fault = f"SUPPORT_MCP_SERVERS: the caller's identity is sent unencrypted to {', '.join(unencrypted)}."
    return [CheckWarning(fault, hint=hint, id="support.W002")]


CHECKS = (check_python_tools, _tool_servers)
