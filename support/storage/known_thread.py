"""Remembers the thread that the current asyncio task loaded or saved last.

``Store.save_thread`` only updates such a thread, and does not insert it. So if another request deletes the
thread during a long answer, the answer does not create the thread again when it saves a new title.
"""

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import ref

from support.context import Owner

# (a weak reference to the task, owner, thread_id). A new task inherits context variables, but a task must
# not use the value of another task. So the value contains its task.
_known_thread: ContextVar[Any] = ContextVar("known_thread", default=None)


def remember(owner: Owner, thread_id: str) -> None:
    _known_thread.set((_current_task(), owner, thread_id))


def forget() -> None:
    _known_thread.set(None)


def of_current_task() -> tuple[Owner, str] | None:
    """Return the owner and ChatKit's id of the thread, or ``None`` if this task knows no thread."""
    known = _known_thread.get()
    return known[1:] if known and known[0] == _current_task() else None


def _current_task() -> Any:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop: database_calls.run_inline runs each call in its own context
        task = None
    return task and ref(task)
