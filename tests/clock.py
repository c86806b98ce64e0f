"""A clock that stands still until a test moves it."""

from types import ModuleType

import pytest


class Clock:
    """Stands in for the module ``time``, in a module that reads it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def replace_in(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> "Clock":
        """Until the test ends."""
        for module in modules:
            monkeypatch.setattr(module, "time", self)
        return self
