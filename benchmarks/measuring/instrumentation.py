"""Measures where a request's CPU time goes, by layer, with wrapped functions.

Each wrapped function is the boundary between two layers. A layer costs the time in its function, less the
time in wrapped functions that it calls. We measure the thread's CPU time, so other programs and threads do
not count. ``async`` functions and generators are measured step by step, as the event loop runs them. A call
that is submitted to a thread counts for the layer that submitted it.
"""

import importlib
import inspect
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import reduce, wraps
from typing import Any

from chatbackend.dev.processes import StartError

layer_now: ContextVar[str] = ContextVar("layer_now", default="")


@dataclass(frozen=True, slots=True)
class Boundary:
    """``name``: the dotted path of a function. ``is_optional``: a request may do without this call."""

    name: str
    layer: str
    is_optional: bool = False


@dataclass(slots=True)
class Cost:
    """Per request, in µs. ``waited``: elapsed time in this layer without CPU time."""

    cpu: float = 0
    waited: float = 0
    calls: float = 0


@dataclass
class Instrumentation:
    """``thread_layers``: the layer of a call in a thread, by the layer that submits it. "" is the default."""

    thread_layers: dict[str, str]
    # For each layer, one of its SQL statements with the parameters.
    statements: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _events: deque[tuple[str, int, int, int]] = field(default_factory=deque)
    _frames: threading.local = field(default_factory=threading.local)
    _called: set[str] = field(default_factory=set)
    _boundaries: list[Boundary] = field(default_factory=list)

    def install(self, boundaries: Sequence[Boundary]) -> None:
        """Raises ``StartError`` with the name of a boundary whose function no longer exists."""
        for boundary in boundaries:
            owner, name = _resolve(boundary)
            setattr(owner, name, self._wrapped(boundary, getattr(owner, name)))
        self._boundaries = list(boundaries)
        self._wrap_submit()

    def application(self, layer: str, application: Any) -> Any:
        """Wrap an ASGI application like any ``async`` function."""
        return self._wrapped(Boundary("", layer), application)

    def drain(self) -> list[tuple[str, int, int, int]]:
        """All calls since the last ``drain``: layer, thread, CPU and elapsed time in ns without callees."""
        events, self._events = list(self._events), deque()
        return events

    def check(self) -> None:
        """Raises ``StartError`` with the name of a boundary that was never called."""
        for boundary in self._boundaries:
            if not boundary.is_optional and boundary.name not in self._called:
                raise StartError(f"{boundary.name} was never called. {ADVICE}")

    def _wrapped(self, boundary: Boundary, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._called.add(boundary.name)
            layer = boundary.layer
            if layer.startswith("SQL statement"):
                layer = f"{layer} of {layer_now.get() or 'no layer'}"
                self.statements.setdefault(layer, (args[1], args[2] if args[2:] else kwargs.get("params")))
            token = layer_now.set(layer)
            try:
                return self._timed(layer, call, *args, **kwargs)
            finally:
                layer_now.reset(token)

        @wraps(call)
        async def timed_async(*args: Any, **kwargs: Any) -> Any:
            self._called.add(boundary.name)
            token = layer_now.set(boundary.layer)
            try:
                return await _TimedSteps(call(*args, **kwargs), boundary.layer, self)
            finally:
                layer_now.reset(token)

        @wraps(call)
        async def timed_events(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self._called.add(boundary.name)
            async with aclosing(call(*args, **kwargs)) as events:
                while True:
                    token = layer_now.set(boundary.layer)
                    try:
                        event = await _TimedSteps(anext(events), boundary.layer, self)
                    except StopAsyncIteration:
                        return
                    finally:
                        layer_now.reset(token)
                    yield event

        if inspect.isasyncgenfunction(call):
            return timed_events
        return timed_async if inspect.iscoroutinefunction(call) else timed

    def _timed(self, layer: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        frame = self._enter()
        try:
            return call(*args, **kwargs)
        finally:
            self._leave(layer, frame)

    def _wrap_submit(self) -> None:
        submit = ThreadPoolExecutor.submit

        def timed(executor: ThreadPoolExecutor, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            layer = self.thread_layers.get(layer_now.get(), self.thread_layers[""])
            return submit(executor, self._timed, layer, call, *args, **kwargs)

        setattr(ThreadPoolExecutor, "submit", timed)  # noqa: B010

    def _enter(self) -> tuple[int, int]:
        """Each frame adds up the time of the layers that it calls, which ``_leave`` subtracts."""
        if not hasattr(self._frames, "stack"):
            self._frames.stack = []
        self._frames.stack.append([0, 0])
        return time.thread_time_ns(), time.perf_counter_ns()

    def _leave(self, layer: str, started: tuple[int, int]) -> None:
        cpu, elapsed = time.thread_time_ns() - started[0], time.perf_counter_ns() - started[1]
        below = self._frames.stack.pop()
        self._events.append((layer, threading.get_ident(), cpu - below[0], elapsed - below[1]))
        if self._frames.stack:
            self._frames.stack[-1][0] += cpu
            self._frames.stack[-1][1] += elapsed


ADVICE = "benchmarks/measuring/profile.py lists it in BOUNDARIES: write the function that replaces it."


def cost_by_layer(events: Sequence[tuple[str, int, int, int]], requests: int) -> dict[str, Cost]:
    """The cost of one request. ``events``: from ``drain``, of this many requests."""
    layers: dict[str, Cost] = defaultdict(Cost)
    for layer, _thread, cpu, elapsed in events:
        layers[layer].cpu += cpu / requests / 1000
        layers[layer].waited += (elapsed - cpu) / requests / 1000
        layers[layer].calls += 1 / requests
    return layers


@dataclass(frozen=True, slots=True)
class _TimedSteps:
    coroutine: Any
    layer: str
    instrumentation: Instrumentation

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, value, error = self.coroutine.__await__(), None, None
        while True:
            frame = self.instrumentation._enter()
            try:
                awaited = steps.throw(error) if error else steps.send(value)
            except StopIteration as end:
                return end.value
            finally:
                self.instrumentation._leave(self.layer, frame)
            value, error = None, None
            try:
                value = yield awaited
            except BaseException as exc:
                error = exc


def _resolve(boundary: Boundary) -> tuple[Any, str]:
    """The object that has the function as an attribute, and the attribute's name."""
    parts = boundary.name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            owner = reduce(getattr, parts[length:-1], module)
            getattr(owner, parts[-1])
        except AttributeError:
            break
        return owner, parts[-1]
    raise StartError(f"{boundary.name} does not exist. {ADVICE}")
