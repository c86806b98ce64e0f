"""Calls a tool with arguments that a model or an MCP client has chosen, for the user of the context."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from django.dispatch import Signal
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from runtime.database_calls import on_database
from runtime.worker_threads import workers
from support.tools.declaration import Tool

logger = logging.getLogger(__name__)
# A part of the audit log, so its records go where those of sign-ins go.
audit_logger = logging.getLogger("authn.audit.tools")

TIMEOUT_SECONDS = 30
PLACE_TIMEOUT_SECONDS = 5  # for a sync tool that waits until another one ends
MAX_OUTPUT_LENGTH = 20_000  # characters of a tool's result. The provider charges for each of them
MAX_FAULTS = 100  # that are described
CUT_OFF = " … (cut off here)"

# How a call began: a model called the tool, a user approved a model's call, or an MCP client called it.
Via = Literal["chat", "approval", "mcp"]
VIA = get_args(Via)
OUTCOMES = ("ok", "invalid_arguments", "refused", "timeout", "failed", "cancelled")

called = Signal()  # sent for metrics after each call, with ``via``, ``outcome`` and ``seconds``

UNKNOWN_EFFECT = "This did not work, and nothing is known of its effect."
NO_SCOPE = "This was not done. The user asks through a client that lacks the scope"
NO_PLACE = "This was not done, because the server is busy. Try again later."

# The scopes of the OAuth client for which tools are called, also by the assistant that the client has asked.
# ``None``: the user's own page or token, which has every scope.
client_scopes: ContextVar[frozenset[str] | None] = ContextVar("client_scopes", default=None)

# The places of sync tools, by event loop. See ``_places_of_sync_tools``.
_places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class ToolError(Exception):
    """A tool raises it with a sentence for the model, such as "The list is full". It is not a fault."""


class ToolFailed(Exception):
    """The tool's function has raised the exception in ``__cause__``.

    Some exceptions mean something to the event loop. ``SystemExit`` would end the server. ``StopIteration``
    never arrives from a thread, so the call would never end. A ``TimeoutError`` of the function is not ours.
    """


@dataclass(frozen=True, slots=True)
class Result:
    """What the model reads. ``outcome``: one of ``OUTCOMES``."""

    text: str
    outcome: str

    @property
    def is_error(self) -> bool:
        return self.outcome != "ok"


async def call(tool: Tool, context: Any, arguments: Any, via: Via) -> Result:
    """Call the tool and return its result. An exception of the tool becomes a sentence for the model.

    ``arguments``: parsed JSON, or the JSON itself as a ``str``.
    A sync function runs in a worker thread, so it may use the ORM. A thread cannot be interrupted: after
    ``TIMEOUT_SECONDS`` the model gets a result, and the function runs on.
    """
    started = time.perf_counter()
    outcome = "cancelled"
    try:
        result = await _result(tool, context, arguments)
        outcome = result.outcome
        return result
    finally:
        _record(tool, context, via, outcome, time.perf_counter() - started)


async def _result(tool: Tool, context: Any, arguments: Any) -> Result:
    scopes = client_scopes.get()
    if tool.scope and scopes is not None and tool.scope not in scopes:
        return Result(f"{NO_SCOPE} {tool.scope}.", "refused")
    try:
        if isinstance(arguments, str):
            arguments = from_json(arguments or "{}")
        if not isinstance(arguments, dict):
            return Result("Invalid arguments: they are not an object.", "invalid_arguments")
        validated = tool.schema.params_pydantic_model.model_validate(arguments)
    except ValidationError as exc:
        return Result(_describe(exc), "invalid_arguments")
    except ValueError:
        return Result("Invalid arguments: they are not JSON.", "invalid_arguments")
    unknown = arguments.keys() - tool.schema.signature.parameters.keys()
    if unknown:
        sentence = f"Invalid arguments: there is no {', '.join(sorted(unknown))}."
        return Result(_shortened(sentence), "invalid_arguments")
    positional, named = tool.schema.to_call_args(validated)
    try:
        output = await _run(tool, context, positional, named)
        return Result(_as_text(output), "ok")
    except ToolError as exc:
        return Result(_shortened(str(exc)), "refused")
    except TimeoutError:
        logger.warning("The tool %s did not end within %d seconds", tool.name, _timeout(tool))
        return Result(f"{UNKNOWN_EFFECT} It took more than {_timeout(tool)} seconds.", "timeout")
    except Exception as exc:
        failure = exc.__cause__ if isinstance(exc, ToolFailed) else exc
        logger.error("The tool %s failed", tool.name, exc_info=failure)
        return Result(UNKNOWN_EFFECT, "failed")


async def _run(tool: Tool, context: Any, positional: list[Any], named: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(tool.function):
        async with asyncio.timeout(_timeout(tool)):
            return await _awaited(tool.function(context, *positional, **named))
    places = _places_of_sync_tools()
    try:
        async with asyncio.timeout(PLACE_TIMEOUT_SECONDS):
            await places.acquire()
    except TimeoutError:
        logger.warning("The tool %s was not called: others hold half of the worker threads", tool.name)
        raise ToolError(NO_PLACE) from None
    running = asyncio.ensure_future(on_database(_in_thread)(tool.function, context, *positional, **named))
    running.add_done_callback(lambda _: places.release())  # also if the thread ends after the time limit
    try:
        done, _ = await asyncio.wait([running], timeout=_timeout(tool))
    except asyncio.CancelledError:
        # The thread runs on. Wait for it, as every call of the database does.
        await asyncio.wait([running])
        raise
    if not done:
        running.add_done_callback(_forget_late_result)
        raise TimeoutError
    return running.result()


def _places_of_sync_tools() -> asyncio.Semaphore:
    """Return the semaphore with half of the worker threads.

    A sync tool may hang, and a user may call it again and again. All other requests need worker threads too.
    """
    return _places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(max(workers.size // 2, 1)))


async def _awaited(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except ToolError:
        raise
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ToolFailed from exc  # the function has awaited a cancelled task of its own
    except (Exception, SystemExit) as exc:
        raise ToolFailed from exc


def _in_thread(function: Callable[..., Any], *positional: Any, **named: Any) -> Any:
    try:
        return function(*positional, **named)
    except ToolError:
        raise
    except BaseException as exc:
        raise ToolFailed from exc


def _timeout(tool: Tool) -> float:
    return TIMEOUT_SECONDS if tool.timeout_seconds is None else tool.timeout_seconds


def _forget_late_result(running: "asyncio.Future[Any]") -> None:
    if not running.cancelled() and (exc := running.exception()):
        kind = type(exc.__cause__ or exc).__name__
        logger.warning("A tool that took too long has failed: %s", kind)


def _as_text(output: Any) -> str:
    if output is None:
        return "Done."
    text = output if isinstance(output, str) else to_json(output, fallback=str).decode()
    return _shortened(text)


def _shortened(text: str) -> str:
    # PostgreSQL cannot store a NUL. A lone surrogate has no form in UTF-8, so no request could carry it.
    text = text.replace("\0", "").encode(errors="replace").decode()
    return text if len(text) <= MAX_OUTPUT_LENGTH else text[:MAX_OUTPUT_LENGTH] + CUT_OFF


def _describe(exc: ValidationError) -> str:
    # pydantic can only describe all faults. For a long list of wrong values, this would take seconds, in the
    # event loop, and hundreds of megabytes.
    if (count := exc.error_count()) > MAX_FAULTS:
        return f"Invalid arguments: there are {count} faults."
    faults = [
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
        for error in exc.errors(include_input=False, include_url=False, include_context=False)
    ]
    return _shortened(f"Invalid arguments: {'; '.join(faults)}.")


def record_approval(tool: str, context: Any, outcome: str) -> None:
    """Write the audit record of an approval's outcome. ``tool``: its name, or empty if unknown."""
    facts = {"outcome": outcome, "tool": tool or None} | _facts(context)
    audit_logger.info("%s: %s", "tool_approval", tool or "unknown", extra=facts)


def _record(tool: Tool, context: Any, via: Via, outcome: str, seconds: float) -> None:
    """Write the audit record of a call. It holds neither the arguments nor the result."""
    called.send(None, via=via, outcome=outcome, seconds=seconds)
    audit_logger.info(
        "%s: %s",
        "tool_call",
        tool.name,
        extra={
            "outcome": outcome,
            "tool": tool.name,
            "via": via,
            **_facts(context),
            "duration_ms": round(seconds * 1000, 3),
        },
    )


def _facts(context: Any) -> dict[str, Any]:
    """Return what a record says of the caller."""
    session, organization = getattr(context, "session", None), getattr(context, "organization", None)
    return {
        "user_id": getattr(context, "user_id", None),
        "session_id": session.id if session else None,
        "organization_id": organization.id if organization else None,
        "client_id": getattr(context, "client_id", "") or None,
        "request_id": getattr(context, "request_id", None),
    }
