"""The profile's instrumentation, applied to functions with a known cost."""

import asyncio
import sys
import time
import types
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.measuring.instrumentation import Boundary, Instrumentation, cost_by_layer
from chatbackend.dev.processes import StartError


def spin(milliseconds: float) -> None:
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module with functions to wrap. The wrapping is undone after the test."""
    module = types.ModuleType("layers_of_the_tests")

    def inner() -> None:
        spin(50)

    def outer() -> None:
        spin(5)
        module.inner()

    async def waiting() -> None:
        spin(5)
        await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(None, spin, 50)

    async def events() -> AsyncIterator[int]:
        for number in range(2):
            spin(25)
            yield number

    for function in (inner, outer, waiting, events):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    return module


def boundary(name: str) -> Boundary:
    return Boundary(f"layers_of_the_tests.{name}", name)


def test_a_layers_cost_does_not_include_the_layers_that_it_calls(layers: types.ModuleType) -> None:
    instrumentation = Instrumentation({"": "hop"})
    instrumentation.install([boundary("outer"), boundary("inner")])

    layers.outer()

    costs = cost_by_layer(instrumentation.drain(), requests=1)
    assert costs["inner"].cpu > 2 * costs["outer"].cpu > 5000


def test_waiting_costs_no_cpu_time_and_a_call_in_a_thread_has_its_own_layer(
    layers: types.ModuleType,
) -> None:
    instrumentation = Instrumentation({"": "hop", "waiting": "thread"})
    instrumentation.install([boundary("waiting")])

    asyncio.run(layers.waiting())

    costs = cost_by_layer(instrumentation.drain(), requests=1)
    assert costs["thread"].cpu > 2 * costs["waiting"].cpu > 5000


def test_the_error_names_a_boundary_that_does_not_exist() -> None:
    with pytest.raises(StartError, match=r"support\.views\.gone"):
        Instrumentation({}).install([Boundary("support.views.gone", "view")])


def test_the_error_names_a_boundary_that_is_never_called(layers: types.ModuleType) -> None:
    instrumentation = Instrumentation({"": "hop"})
    instrumentation.install([boundary("inner")])

    with pytest.raises(StartError, match=r"layers_of_the_tests\.inner"):
        instrumentation.check()


def test_the_reader_of_an_async_generator_is_not_part_of_its_layer(layers: types.ModuleType) -> None:
    instrumentation = Instrumentation({"": "hop"})
    instrumentation.install([boundary("events"), boundary("outer")])

    async def read() -> list[int]:
        return [number async for number in layers.events() if layers.outer() is None]

    numbers = asyncio.run(read())

    costs = cost_by_layer(instrumentation.drain(), requests=1)
    assert numbers == [0, 1]
    assert costs["outer"].cpu > 1.5 * costs["events"].cpu > 5000
