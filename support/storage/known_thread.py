"""Remembers threads of the current asyncio task.

The thread that the task loaded or saved last: ``Store.save_thread`` only updates such a thread, and does not
insert it. So if another request deletes the thread during a long answer, the answer does not create the
thread again when it saves a new title.

A new thread whose first message is not there yet: one statement stores both (``stores_with_first_message``).
"""

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import ref

from chatkit.types import ThreadMetadata

from support.context import Owner

# Both values contain a weak reference to their task. A new task inherits context variables, but a task must
# not use the value of another task.
_known_thread: ContextVar[Any] = ContextVar("known_thread", default=None)  # (task, owner, thread_id)
_new_thread: ContextVar[Any] = ContextVar("new_thread", default=None)  # (task, list of at most one thread)


def remember(owner: Owner, thread_id: str) -> None:
    _known_thread.set((_current_task(), owner, thread_id))


def forget() -> None:
    _known_thread.set(None)


def of_current_task() -> tuple[Owner, str] | None:
    """Return the owner and ChatKit's id of the thread, or ``None`` if this task knows no thread."""
    known = _known_thread.get()
    return known[1:] if known and known[0] == _current_task() else None


def stores_with_first_message() -> None:
    """Let ``Store`` keep the next new thread of this task until the thread's first message is added.

    Call it only if nothing else reads or changes the thread before that message.
    """
    _new_thread.set((_current_task(), []))


def hold_back(thread: ThreadMetadata) -> bool:
    """Keep the new thread for ``take_held_back``. Returns whether it was kept."""
    waiting = _new_thread.get()
    if waiting is None or waiting[0] != _current_task() or waiting[1]:
        return False
    waiting[1].append(thread)
    return True


def take_held_back(thread_id: str) -> ThreadMetadata | None:
    """Return the thread that was kept. From now on, new threads are stored at once again."""
    waiting = _new_thread.get()
    if waiting is None or waiting[0] != _current_task() or not waiting[1] or waiting[1][0].id != thread_id:
        return None
    _new_thread.set(None)
    thread: ThreadMetadata = waiting[1][0]
    return thread


def _current_task() -> Any:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop: database_calls.run_inline runs each call in its own context
        task = None
    return task and ref(task)
