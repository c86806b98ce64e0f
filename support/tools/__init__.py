"""Python functions as tools. A team imports ``tool`` and ``ToolError`` from here."""

from support.tools.calls import ToolError
from support.tools.declaration import tool

__all__ = ["ToolError", "tool"]
