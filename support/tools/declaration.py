"""Makes a tool from a Python function. Its schema and description come from its signature and docstring.

The Agents SDK makes the schema, with pydantic. It is imported in the functions, because its import takes two
seconds.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints, overload

from django.core.exceptions import ImproperlyConfigured

F = TypeVar("F", bound=Callable[..., Any])

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")  # OpenAI allows 64 characters
SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749, section 3.3: a scope-token
OPTIONS = "support_tool"  # the attribute of a function with its options
# A first parameter with one of these types cannot be the context.
ARGUMENT_TYPES = (str, int, float, bool, list, dict)


class NotATool(ImproperlyConfigured):
    """The function cannot be a tool. The message says why, and continues a sentence about the function."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``@tool`` sets. A function without it has these defaults."""

    title: str = ""
    scope: str = ""
    needs_approval: bool = False
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the assistant and MCP clients can call.

    ``name``: unique among SUPPORT_TOOLS. ``title``: the user sees it. ``description``: the model reads it.
    ``schema``: the Agents SDK's ``FuncSchema`` of all parameters but the first one.
    ``scope``: the OAuth scope that an MCP client needs, or "". The chat needs no scope.
    ``needs_approval``: in the chat, the tool runs only after the user's approval.
    ``is_read_only``: the tool changes nothing. MCP clients may then call it without asking the user.
    ``timeout_seconds``: ``None`` is the limit of ``support.tools.calls``.
    """

    function: Callable[..., Any]
    name: str
    title: str
    description: str
    schema: Any
    scope: str
    needs_approval: bool
    is_read_only: bool
    timeout_seconds: float | None = None


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *, title: str = "", scope: str = "", needs_approval: bool = False, read_only: bool = False
) -> Callable[[F], F]: ...
def tool(
    function: Any = None,
    /,
    *,
    title: str = "",
    scope: str = "",
    needs_approval: bool = False,
    read_only: bool = False,
) -> Any:
    """Set the options of a tool. ``Tool`` describes them. The function itself stays as it is.

    A function becomes a tool only if SUPPORT_TOOLS names it, with or without this decorator.
    """

    def decorate(decorated: F) -> F:
        setattr(decorated, OPTIONS, Options(title, scope, needs_approval, read_only))
        return decorated

    return decorate if function is None else decorate(function)


def make_tool(function: Any) -> Tool:
    """Return the tool of a function. Raises ``NotATool``."""
    if not inspect.isfunction(function):
        raise NotATool("is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise NotATool("is a generator, and a tool returns one result")
    options = getattr(function, OPTIONS, Options())
    if not NAME.fullmatch(function.__name__):
        raise NotATool("has a name that a model cannot use: write at most 64 letters, digits and _")
    if options.scope and not SCOPE.fullmatch(options.scope):
        raise NotATool("has a scope that is not one word without quotation marks")
    if options.needs_approval and options.is_read_only:
        raise NotATool("needs approval and is read-only: choose one of them")
    schema = _schema(function)
    if not schema.description:
        raise NotATool("has no docstring. The model reads in it what the tool does")
    return Tool(
        function=function,
        name=function.__name__,
        title=options.title or function.__name__.replace("_", " ").strip().capitalize(),
        description=schema.description,
        schema=schema,
        scope=options.scope,
        needs_approval=options.needs_approval,
        is_read_only=options.is_read_only,
    )


def _schema(function: Callable[..., Any]) -> Any:
    """Return the Agents SDK's ``FuncSchema`` of the function without its first parameter."""
    from agents.exceptions import UserError
    from agents.function_schema import function_schema
    from pydantic.errors import PydanticUserError

    signature = inspect.signature(function)
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as exc:
        raise NotATool(f"has an annotation that cannot be read: {exc}") from exc
    _check_parameters(signature, hints)
    context, *parameters = signature.parameters.values()

    def without_context() -> None: ...

    without_context.__name__, without_context.__doc__ = function.__name__, function.__doc__
    without_context.__annotations__ = {name: hint for name, hint in hints.items() if name != context.name}
    setattr(without_context, "__signature__", signature.replace(parameters=parameters))  # noqa: B010
    try:
        return function_schema(without_context, strict_json_schema=False)
    except (UserError, PydanticUserError) as exc:
        reason = str(exc).splitlines()[0]
        raise NotATool(f"has a parameter that cannot come from JSON: {reason}") from exc


def _check_parameters(signature: inspect.Signature, hints: dict[str, Any]) -> None:
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [*signature.parameters.values()]
    context = parameters[0] if parameters and parameters[0].kind in by_position else None
    if context is None or hints.get(context.name) in ARGUMENT_TYPES:
        raise NotATool("does not take the RequestContext as its first parameter")
    for parameter in parameters[1:]:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise NotATool(f"takes *{parameter.name}, and a model needs the name of each argument")
        if parameter.name not in hints:
            raise NotATool(f"has no type for {parameter.name}. The model reads the types")
