"""The model and the tool that the user picked for a message in ChatKit's composer."""

from collections.abc import Sequence

from chatkit.types import InferenceOptions, ThreadItem, UserMessageItem

from support.conf import conf

MAX_TOOL_NAME = 64  # characters, as the model sees it


class ModelChoiceRefused(Exception):
    """The message names the field and does not quote the request."""


def check(options: InferenceOptions) -> None:
    """Raises ``ModelChoiceRefused`` if the model or the tool is not on offer."""
    if options.model and options.model not in _models():
        raise ModelChoiceRefused("params.input.inference_options.model is not one of the models on offer")
    # Only the MCP servers know their tools, and the answer connects to them. So check the form of the name.
    if options.tool_choice and not (conf.SUPPORT_MCP_SERVERS and _may_be_a_tool(options.tool_choice.id)):
        raise ModelChoiceRefused(
            "params.input.inference_options.tool_choice.id is not one of the tools on offer"
        )


def model(items: Sequence[ThreadItem]) -> str:
    """The model picked for the newest message. The default if none was picked, or if it is not on offer."""
    messages = (item for item in reversed(items) if isinstance(item, UserMessageItem))
    newest = next(messages, None)
    picked = newest.inference_options.model if newest else None
    return picked if picked in _models() else conf.SUPPORT_MODEL


def tool(items: Sequence[ThreadItem]) -> str | None:
    """The tool picked for the newest message; ``None`` if another item follows that message."""
    newest = items[-1] if items else None
    picked = newest.inference_options.tool_choice if isinstance(newest, UserMessageItem) else None
    return picked.id if picked else None


def _models() -> set[str]:
    return {conf.SUPPORT_MODEL, *conf.SUPPORT_MODELS} - {""}


def _may_be_a_tool(name: str) -> bool:
    return name.startswith("mcp_") and len(name) <= MAX_TOOL_NAME
