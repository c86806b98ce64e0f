"""Tells schemathesis that the running server offers no models and tools to pick."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Remove a pick that the document allows, since this server offers none."""
    options = _at(case.body, "params", "input", "inference_options")
    if isinstance(_at(options, "model"), str):
        options["model"] = None
    if isinstance(_at(options, "tool_choice", "id"), str):
        options["tool_choice"] = None


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
