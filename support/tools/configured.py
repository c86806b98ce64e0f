"""The tools that SUPPORT_TOOLS names."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from django.utils.module_loading import import_string

from support.conf import conf
from support.tools.declaration import NotATool, Tool, make_tool

LIST = "TOOLS"  # the list of a module with tools


def configured() -> dict[str, Tool]:
    """Return the tools by their names. The system checks have validated the setting."""
    return _tools(tuple(conf.SUPPORT_TOOLS))


def problems() -> list[str]:
    """Return what is wrong with SUPPORT_TOOLS, as sentences for the operator."""
    found, paths_by_name = [], dict[str, str]()
    for path in conf.SUPPORT_TOOLS:
        try:
            functions = _functions(path)
        except NotATool as exc:
            found.append(f"{path} {exc}.")
            continue
        for function in functions:
            where = f"{path}: {function.__name__}" if hasattr(function, "__name__") else path
            try:
                name = make_tool(function).name
            except NotATool as exc:
                found.append(f"{where} {exc}.")
                continue
            if name in paths_by_name:
                found.append(f"{where} has the same name as a tool of {paths_by_name[name]}.")
            paths_by_name[name] = path
    return found


@cache
def _tools(paths: tuple[str, ...]) -> dict[str, Tool]:
    tools = [make_tool(function) for path in paths for function in _functions(path)]
    return {tool.name: tool for tool in tools}


def _functions(path: str) -> Sequence[Any]:
    """Return the functions of an entry: one function, a list of functions, or the ``TOOLS`` of a module.

    Raises ``NotATool`` if the entry cannot be imported.
    """
    try:
        named = _import(path)
    except ImportError as exc:
        raise NotATool(f"cannot be imported: {exc}") from exc
    return named if isinstance(named, list | tuple) else [named]


def _import(path: str) -> Any:
    try:
        module = import_module(path)
    except ModuleNotFoundError as exc:
        if not path.startswith(exc.name or " "):
            raise  # the module exists, and one of its own imports does not
        return import_string(path)
    if not hasattr(module, LIST):
        raise ImportError(f"the module has no list {LIST}")
    return getattr(module, LIST)
