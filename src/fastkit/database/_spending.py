"""What the work of one request has asked of databases: statements and time; nothing is counted until somebody asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from sqlalchemy.engine import Dialect


class Spending:
    """
    Statements and seconds, summed over all databases, tasks and threads that work for the same request.

    Attributes:
        statements: How many statements were sent, without those that only begin, set up or end a transaction.
        seconds: How long their answers, and those to COMMIT and ROLLBACK, took altogether.
    """

    __slots__ = ("_lock", "seconds", "statements")

    def __init__(self) -> None:
        self.statements = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def add(self, statements: int, seconds: float) -> None:
        """Add what was spent."""
        with self._lock:
            self.statements += statements
            self.seconds += seconds


SPENDING: ContextVar[Spending | None] = ContextVar("fastkit_spending", default=None)
"""What is spent here is added to this, if anything."""

_SENDING = ("do_execute", "do_executemany", "do_execute_no_params")
_ENDING = ("do_commit", "do_rollback")
_BOOKKEEPING = ("BEGIN", "START TRANSACTION", "SET ", "PRAGMA ", "SAVEPOINT ", "RELEASE ", "ROLLBACK ")

_dialects: WeakSet[Dialect] = WeakSet()
_lock = threading.Lock()
_is_counting = False


def can_be_counted(dialect: Dialect) -> None:
    """Note a dialect, the one of a database that is made, for when somebody asks to count."""
    with _lock:
        _dialects.add(dialect)
        if _is_counting:
            _count(dialect)


def count_spending() -> None:
    """Count from now on what is spent on all databases, those included that are made later."""
    global _is_counting  # noqa: PLW0603 - as SQLAlchemy's listeners for all engines are
    with _lock:
        if not _is_counting:
            _is_counting = True
            for dialect in _dialects:
                _count(dialect)


def _count(dialect: Any) -> None:
    """Put a stopwatch around what the dialect sends; a listener would make short reads take the long way."""
    for name in (*_SENDING, *_ENDING):
        given = getattr(dialect, name)
        if not hasattr(given, "fastkit_counts"):
            setattr(dialect, name, _timed(given))


def _timed(send: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        spending = SPENDING.get()
        if spending is None:
            return send(*arguments, **options)
        start = time.perf_counter()
        try:
            return send(*arguments, **options)
        finally:
            spending.add(_statements_in(arguments), time.perf_counter() - start)

    timed.fastkit_counts = True  # type: ignore[attr-defined]
    return timed


@contextmanager
def one_statement() -> Generator[None]:
    """Count what is done inside as one statement: what goes past the dialect."""
    spending, start = SPENDING.get(), time.perf_counter()
    try:
        yield
    finally:
        if spending is not None:
            spending.add(1, time.perf_counter() - start)


def _statements_in(arguments: tuple[Any, ...]) -> int:
    """Return 1 for a cursor and a text that is sent with it, 0 for bookkeeping, and for a connection that is ended."""
    return int(len(arguments) > 1 and not arguments[1].startswith(_BOOKKEEPING))
