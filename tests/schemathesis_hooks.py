"""What schemathesis cannot know of a request: which models and tools the running server offers (none)."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Pick none, where the pick is as the document allows it."""
    options = _at(case.body, "params", "input", "inference_options")
    if isinstance(_at(options, "model"), str):
        options["model"] = None
    if isinstance(_at(options, "tool_choice", "id"), str):
        options["tool_choice"] = None


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
