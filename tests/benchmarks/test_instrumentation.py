"""The profile's instruments, on functions of known cost."""

import asyncio
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.measuring.instrumentation import Instruments, Seam, spent
from chatbackend.dev.processes import StartError


def spin(milliseconds: float) -> None:
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module with functions to wrap, and everything wrapped put back."""
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

    module.inner, module.outer, module.waiting = inner, outer, waiting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    return module


def seam(name: str) -> Seam:
    return Seam(f"layers_of_the_tests.{name}", name)


def test_what_a_layer_below_spends_is_not_the_layers_own(layers: types.ModuleType) -> None:
    instruments = Instruments({"": "hop"})
    instruments.install([seam("outer"), seam("inner")])

    layers.outer()

    took = spent(instruments.drain(), requests=1)
    assert took["inner"].cpu > 2 * took["outer"].cpu > 5000


def test_waiting_is_no_cpu_and_what_is_handed_to_a_thread_is_a_layer_of_its_own(
    layers: types.ModuleType,
) -> None:
    instruments = Instruments({"": "hop", "waiting": "handed"})
    instruments.install([seam("waiting")])

    asyncio.run(layers.waiting())

    took = spent(instruments.drain(), requests=1)
    assert took["handed"].cpu > 2 * took["waiting"].cpu > 5000


def test_a_seam_that_is_gone_is_named() -> None:
    with pytest.raises(StartError, match=r"support\.views\.gone is gone\. benchmarks/profile\.py names it"):
        Instruments({}).install([Seam("support.views.gone", "view")])


def test_a_seam_that_nobody_calls_is_named(layers: types.ModuleType) -> None:
    instruments = Instruments({"": "hop"})
    instruments.install([seam("inner")])

    with pytest.raises(StartError, match=r"layers_of_the_tests\.inner was never called"):
        instruments.check()
