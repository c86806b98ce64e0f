"""Which functions can be tools, and what the model and MCP clients read of them."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.core.checks import CheckMessage

from support.checks import tools as checks
from support.context import RequestContext
from support.tools import tool
from support.tools.configured import configured
from support.tools.declaration import NotATool, make_tool
from tests.fixtures.shop import tools as shop

SHOP = "tests.fixtures.shop.tools"


def test_the_schema_comes_from_the_signature_and_the_docstring() -> None:
    made = make_tool(shop.add_todo)

    assert (made.name, made.title, made.scope) == ("add_todo", "Add to the to-do list", "todo:write")
    assert made.description == "Put something on the user's to-do list."
    properties = made.schema.params_json_schema["properties"]
    assert properties["text"]["description"] == "What is to be done."
    assert properties["priority"]["enum"] == ["low", "high"]
    assert made.schema.params_json_schema["required"] == ["text"]


def test_a_function_without_the_decorator_has_a_title_and_needs_no_scope() -> None:
    made = make_tool(shop.who_am_i)

    assert (made.title, made.scope, made.needs_approval, made.is_read_only) == ("Who am i", "", False, False)


def test_the_decorator_works_without_parentheses() -> None:
    def plain(context: RequestContext) -> str:
        """Do something."""
        return ""

    assert tool(plain) is plain
    assert make_tool(plain).title == "Plain"


def no_context() -> str:
    """Do something."""
    return ""


def an_argument_first(text: str) -> str:
    """Do something."""
    return text


def only_named(*, context: RequestContext) -> str:
    """Do something."""
    return ""


def no_docstring(context: RequestContext) -> str:
    return ""


def no_type(context: RequestContext, text) -> str:  # type: ignore[no-untyped-def]
    """Do something."""
    return ""


def many(context: RequestContext, *texts: str) -> str:
    """Do something."""
    return ""


def unknown_type(context: RequestContext, text: "Missing") -> str:  # type: ignore[name-defined]  # noqa: F821
    """Do something."""
    return ""


def not_json(context: RequestContext, text: Callable[[], None]) -> str:
    """Do something."""
    return ""


async def several(context: RequestContext) -> AsyncIterator[str]:
    """Do something."""
    yield ""


@tool(scope="two words")
def bad_scope(context: RequestContext) -> str:
    """Do something."""
    return ""


@tool(needs_approval=True, read_only=True)
def contradiction(context: RequestContext) -> str:
    """Do something."""
    return ""


UNUSABLE = [
    pytest.param(no_context, "first parameter", id="no-context"),
    pytest.param(an_argument_first, "first parameter", id="an-argument-first"),
    pytest.param(only_named, "first parameter", id="context-by-name"),
    pytest.param(no_docstring, "no docstring", id="no-docstring"),
    pytest.param(no_type, "no type for text", id="no-type"),
    pytest.param(many, "takes *texts", id="variadic"),
    pytest.param(unknown_type, "annotation that cannot be read", id="unknown-type"),
    pytest.param(not_json, "cannot come from JSON", id="not-json"),
    pytest.param(several, "generator", id="generator"),
    pytest.param(lambda context: "", "name", id="lambda"),
    pytest.param(bad_scope, "scope", id="bad-scope"),
    pytest.param(contradiction, "read-only", id="contradiction"),
    pytest.param("text", "not a function", id="not-a-function"),
    pytest.param(RequestContext, "not a function", id="a-class"),
]


@pytest.mark.parametrize(("function", "reason"), UNUSABLE)
def test_a_function_that_cannot_be_a_tool_is_refused_with_a_reason(function: Any, reason: str) -> None:
    with pytest.raises(NotATool, match=reason.replace("*", r"\*")):
        make_tool(function)


def found(settings: Any, *paths: str) -> list[CheckMessage]:
    settings.SUPPORT_TOOLS = list(paths)
    return checks.check_python_tools()


@pytest.mark.parametrize("path", [SHOP, f"{SHOP}.TOOLS", f"{SHOP}.add_todo"])
def test_an_entry_is_a_module_a_list_or_a_function(settings: Any, path: str) -> None:
    assert found(settings, path) == []
    assert "add_todo" in configured()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere.tools", "cannot be imported"),
        (f"{SHOP}.missing", "cannot be imported"),
        ("tests.fixtures.shop", "no list TOOLS"),
        (f"{__name__}.no_docstring", "no docstring"),
    ],
)
def test_the_check_names_an_entry_that_is_not_usable(settings: Any, path: str, reason: str) -> None:
    (message,) = found(settings, path)

    assert message.id == "support.E015"
    assert path in message.msg
    assert reason in message.msg


def test_two_tools_cannot_have_the_same_name(settings: Any) -> None:
    (message,) = found(settings, SHOP, f"{SHOP}.add_todo")

    assert "same name" in message.msg
