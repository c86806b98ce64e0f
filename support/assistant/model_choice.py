"""Checks and reads the user's choice of a model and a tool for a message, made in ChatKit's composer."""

from collections.abc import Sequence

from chatkit.types import InferenceOptions, ThreadItem, UserMessageItem

from support.conf import conf
from support.tools.configured import configured

MAX_TOOL_NAME = 64  # characters of the name that the model sees, such as mcp_todo__add


class ModelChoiceRefused(Exception):
    """The model or the tool is not on offer. The exception's message names the field and not its value."""


def check(options: InferenceOptions) -> None:
    """Raise ``ModelChoiceRefused`` if the model or the tool is not on offer."""
    if options.model and options.model not in _models():
        raise ModelChoiceRefused("params.input.inference_options.model is not one of the models on offer")
    if options.tool_choice and not _may_be_a_tool(options.tool_choice.id):
        raise ModelChoiceRefused(
            "params.input.inference_options.tool_choice.id is not one of the tools on offer"
        )


def chosen_model(items: Sequence[ThreadItem]) -> str:
    """Return the model that the user chose for the newest message.

    Returns an empty string if the user chose none, or if that model is no longer on offer.
    """
    messages = (item for item in reversed(items) if isinstance(item, UserMessageItem))
    newest = next(messages, None)
    chosen = newest.inference_options.model if newest else None
    return chosen if chosen and chosen in _models() else ""


def chosen_tool(items: Sequence[ThreadItem]) -> str | None:
    """Return the tool that the user chose for the newest message.

    Returns ``None`` if the user chose none, or if another item follows the message.
    """
    newest = items[-1] if items else None
    chosen = newest.inference_options.tool_choice if isinstance(newest, UserMessageItem) else None
    return chosen.id if chosen else None


def _models() -> set[str]:
    return {conf.SUPPORT_MODEL, *conf.SUPPORT_MODELS} - {""}


def _may_be_a_tool(name: str) -> bool:
    # Only the MCP servers know which tools they have, and they are not connected yet. A team's own agent is
    # not made yet, either. So check only the form of the name here. ``agent`` checks the tool itself.
    if conf.SUPPORT_AGENT and len(name) <= MAX_TOOL_NAME:
        return True
    is_of_a_server = bool(conf.SUPPORT_MCP_SERVERS) and name.startswith("mcp_") and len(name) <= MAX_TOOL_NAME
    return is_of_a_server or (bool(conf.SUPPORT_TOOLS) and name in configured())
