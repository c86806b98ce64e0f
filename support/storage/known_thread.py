"""The thread that the current asyncio task loaded or saved last.

The task knows that this thread exists. If another request deletes the thread during a long answer, saving a
new title must not create the thread again.
"""

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import ref

# (a weak reference to the task, user_id, thread_id). New tasks inherit context variables, but what one task
# knows must not count for another one. So the value names its task.
_known_thread: ContextVar[Any] = ContextVar("known_thread", default=None)


def remember(user_id: str, thread_id: str) -> None:
    _known_thread.set((_current_task(), user_id, thread_id))


def forget() -> None:
    _known_thread.set(None)


def of_current_task() -> tuple[str, str] | None:
    """The thread's owner and its id; ``None`` if this task has neither loaded nor saved a thread."""
    known = _known_thread.get()
    return known[1:] if known and known[0] == _current_task() else None


def _current_task() -> Any:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop: database_calls.run_inline runs each call in its own context
        task = None
    return task and ref(task)
