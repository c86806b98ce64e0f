"""System checks of this app's settings. An error stops the start of the server. Its hint names the remedy."""

from typing import Any

from django.core.checks import CheckMessage

from support.checks import agent, attachments, chat, mcp, project, tools


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    checks = (*chat.CHECKS, *tools.CHECKS, *agent.CHECKS, *mcp.CHECKS, *attachments.CHECKS, *project.CHECKS)
    return [message for check in checks for message in check()]


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Warn about settings that are fine in development. Django runs this for ``check --deploy`` only."""
    checks = (*attachments.DEPLOYMENT_CHECKS, *project.DEPLOYMENT_CHECKS)
    return [message for check in checks for message in check()]
