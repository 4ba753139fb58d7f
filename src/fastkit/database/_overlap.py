"""One user at a time: a guard that refuses overlapping use instead of hanging or mixing up transactions."""

from __future__ import annotations

import threading
from types import TracebackType

from greenlet import getcurrent

from fastkit.errors import ConcurrentUseError


class OneAtATime:
    """
    A lock that never waits: whoever holds it may enter again, everybody else gets an error.

    The holder is a greenlet: each operation of an async session runs in one of its own, and each thread has one.
    """

    __slots__ = ("_depth", "_holder", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: object | None = None
        self._depth = 0

    def __enter__(self) -> None:
        me = getcurrent()
        if self._holder is not me:
            if not self._lock.acquire(blocking=False):
                raise ConcurrentUseError(
                    "This unit of work is busy in another task or thread. A unit serves one task: "
                    "await one operation before the next, and give each concurrent task a unit of its own."
                )
            self._holder = me
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = None
            self._lock.release()
