"""One user at a time, and one language of errors, around everything that a session does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from greenlet import getcurrent
from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from fastkit.database._translate import translate
from fastkit.errors import ConcurrentUseError, ConnectionLostError, FastkitError

if TYPE_CHECKING:
    from fastkit.database._transaction import OpenTransaction


class Guard:
    """
    A lock that never waits, and translates errors on the way out; entered again and again, as long as its session.

    Whoever holds it may enter again, everybody else gets an error. The holder is a greenlet: each operation of an async
    session runs in one of its own, and each thread has one.

    Attributes:
        transaction: The open transaction, to be doomed by what goes wrong, or None.
        holder: The greenlet that is at work, or None.
    """

    __slots__ = ("_depth", "_lock", "_metadata", "holder", "transaction")

    def __init__(self, metadata: Sequence[MetaData]) -> None:
        self.transaction: OpenTransaction | None = None
        self._metadata = metadata
        self._lock = threading.Lock()
        self.holder: object | None = None
        self._depth = 0

    @property
    def is_held_elsewhere(self) -> bool:
        """Return whether another task or thread is at work."""
        holder = self.holder
        return holder is not None and holder is not getcurrent()

    def refuse(self) -> NoReturn:
        """Raise `ConcurrentUseError`."""
        raise ConcurrentUseError(
            "This unit of work is busy in another task or thread. A unit serves one task: "
            "await one operation before the next, and give each concurrent task a unit of its own."
        )

    def wait(self, seconds: float) -> None:
        """Wait, at most so long, until the thread that is at work has finished."""
        if self._lock.acquire(timeout=seconds):
            self._lock.release()

    def __enter__(self) -> None:
        me = getcurrent()
        if self.holder is not me:
            if not self._lock.acquire(blocking=False):
                self.refuse()
            self.holder = me
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self.holder = None
            self._lock.release()
        if error is not None and not isinstance(error, FastkitError):
            self._translate(error)

    def _translate(self, error: BaseException) -> None:
        first = self._first_answer(error)
        translated = translate(first, self._metadata)
        is_exit = not isinstance(error, Exception)  # a cancelled statement leaves nothing to go on with
        if self.transaction is not None and (translated or is_exit or isinstance(error, DBAPIError)):
            self.transaction.doom_said_better(translated or error, first)
            if is_exit or isinstance(translated, ConnectionLostError):
                self.transaction.doom(translated or error, whole=True)
        if translated is not None:
            raise translated from first

    def _first_answer(self, error: BaseException) -> BaseException:
        """Return the error that the database gave first; the rollback to a savepoint that it took away hides it."""
        first = self.transaction.cause_of_doom if self.transaction is not None else None
        return first if isinstance(first, DBAPIError) and isinstance(error, Exception) else error
