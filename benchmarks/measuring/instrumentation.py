"""Where a request's CPU time goes, by functions that are wrapped for it.

Each wrapped function is a seam between two layers: what is spent in it, less what is spent in wrapped
functions below it, is its layer's. CPU time of the thread, so that neither other programs nor other
threads count. ``async`` functions are timed step by step, as the event loop runs them; what is handed to
a thread takes along who handed it over.
"""

import importlib
import inspect
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import reduce, wraps
from typing import Any

from chatbackend.dev.processes import StartError

layer_now: ContextVar[str] = ContextVar("layer_now", default="")


@dataclass(frozen=True, slots=True)
class Seam:
    """``name``: the dotted path of a function. ``is_optional``: it need not be called in a request."""

    name: str
    layer: str
    is_optional: bool = False


@dataclass(slots=True)
class Spent:
    """Per request, in µs. ``waited``: what passed while nothing was done, in this layer itself."""

    cpu: float = 0
    waited: float = 0
    calls: float = 0


@dataclass
class Instruments:
    """``handed``: the layer of what is handed to a thread, by the layer that hands it over."""

    handed: dict[str, str]
    statements: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # one of each layer, with parameters
    _events: deque[tuple[str, int, int, int]] = field(default_factory=deque)
    _frames: threading.local = field(default_factory=threading.local)
    _called: set[str] = field(default_factory=set)
    _seams: list[Seam] = field(default_factory=list)

    def install(self, seams: Sequence[Seam]) -> None:
        """``StartError`` names a seam that is no longer there."""
        for seam in seams:
            owner, name = _found(seam)
            setattr(owner, name, self._wrapped(seam, getattr(owner, name)))
        self._seams = list(seams)
        self._take_along()

    def application(self, layer: str, application: Any) -> Any:
        """An ASGI application, timed as any ``async`` function."""
        return self._wrapped(Seam("", layer), application)

    def drain(self) -> list[tuple[str, int, int, int]]:
        """All since the last time: layer, thread, and its own CPU and elapsed time in ns."""
        events, self._events = list(self._events), deque()
        return events

    def check(self) -> None:
        """``StartError`` names a seam that nobody called: the layers around it would be wrong."""
        for seam in self._seams:
            if not seam.is_optional and seam.name not in self._called:
                raise StartError(f"{seam.name} was never called. {ADVICE}")

    def _wrapped(self, seam: Seam, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._called.add(seam.name)
            layer = seam.layer
            if layer.startswith("statement"):
                layer = f"{layer} of {layer_now.get() or 'nobody'}"
                self.statements.setdefault(layer, (args[1], args[2] if args[2:] else kwargs.get("params")))
            token = layer_now.set(layer)
            try:
                return self._timed(layer, call, *args, **kwargs)
            finally:
                layer_now.reset(token)

        @wraps(call)
        async def timed_async(*args: Any, **kwargs: Any) -> Any:
            self._called.add(seam.name)
            token = layer_now.set(seam.layer)
            try:
                return await _Steps(call(*args, **kwargs), seam.layer, self)
            finally:
                layer_now.reset(token)

        return timed_async if inspect.iscoroutinefunction(call) else timed

    def _timed(self, layer: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        frame = self._enter()
        try:
            return call(*args, **kwargs)
        finally:
            self._leave(layer, frame)

    def _take_along(self) -> None:
        submit = ThreadPoolExecutor.submit

        def timed(executor: ThreadPoolExecutor, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            layer = self.handed.get(layer_now.get(), self.handed[""])
            return submit(executor, self._timed, layer, call, *args, **kwargs)

        setattr(ThreadPoolExecutor, "submit", timed)  # noqa: B010

    def _enter(self) -> tuple[int, int]:
        """Frames hold what layers below spend, to be taken off."""
        if not hasattr(self._frames, "stack"):
            self._frames.stack = []
        self._frames.stack.append([0, 0])
        return time.thread_time_ns(), time.perf_counter_ns()

    def _leave(self, layer: str, begun: tuple[int, int]) -> None:
        cpu, elapsed = time.thread_time_ns() - begun[0], time.perf_counter_ns() - begun[1]
        below = self._frames.stack.pop()
        self._events.append((layer, threading.get_ident(), cpu - below[0], elapsed - below[1]))
        if self._frames.stack:
            self._frames.stack[-1][0] += cpu
            self._frames.stack[-1][1] += elapsed


ADVICE = "benchmarks/measuring/profile.py names it as a seam between two layers: name what is there now."


def spent(events: Sequence[tuple[str, int, int, int]], requests: int) -> dict[str, Spent]:
    """Of one request, by layer."""
    layers: dict[str, Spent] = defaultdict(Spent)
    for layer, _thread, cpu, elapsed in events:
        layers[layer].cpu += cpu / requests / 1000
        layers[layer].waited += (elapsed - cpu) / requests / 1000
        layers[layer].calls += 1 / requests
    return layers


@dataclass(frozen=True, slots=True)
class _Steps:
    coroutine: Any
    layer: str
    instruments: Instruments

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, value, error = self.coroutine.__await__(), None, None
        while True:
            frame = self.instruments._enter()
            try:
                awaited = steps.throw(error) if error else steps.send(value)
            except StopIteration as end:
                return end.value
            finally:
                self.instruments._leave(self.layer, frame)
            value, error = None, None
            try:
                value = yield awaited
            except BaseException as exc:
                error = exc


def _found(seam: Seam) -> tuple[Any, str]:
    """What holds the function, and its name there."""
    parts = seam.name.split(".")
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
    raise StartError(f"{seam.name} is gone. {ADVICE}")
