"""aiosqlite with one trip to its thread for a statement, where SQLAlchemy's own adapter makes four."""
# ruff: noqa: SLF001 - aiosqlite runs its own helpers only, SQLAlchemy hides the driver's connection

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiosqlite
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_cursor
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util.concurrency import await_

_PARTS = ("_adapt_connection", "_connection", "_cursor", "_rows", "_soft_closed_memoized")
_OWN = ("_execute", "_conn")


class _Told(NamedTuple):
    """What a cursor tells when its statement has run."""

    description: Any = None
    rows: Sequence[Any] = ()
    rowcount: int = -1
    lastrowid: int | None = None


_NOTHING = _Told()


def adapted() -> AsyncAdapt_aiosqlite_dbapi:
    """Return the driver as SQLAlchemy's `create_engine(module=...)` wants it; its own if anything is not as known."""
    is_known = AsyncAdapt_dbapi_cursor.__slots__ == _PARTS and all(hasattr(aiosqlite.Connection, each) for each in _OWN)
    return (_OneTripDriver if is_known else AsyncAdapt_aiosqlite_dbapi)(aiosqlite, sqlite3)


class _OneTripCursor(AsyncAdapt_aiosqlite_cursor):
    """
    A cursor that brings everything with the trip that runs the statement, and leaves nothing open in the thread.

    A statement whose caller is cancelled is closed there all the same, and keeps no lock for a cursor.
    """

    __slots__ = ("_size", "_told")
    _awaitable_cursor_close = False  # SQLAlchemy has nothing to close beforehand

    def __init__(self, adapt_connection: _OneTripConnection) -> None:
        self._adapt_connection, self._connection = adapt_connection, adapt_connection._connection
        self._rows, self._told, self._size = deque(), _NOTHING, 1

    def execute(self, operation: Any, parameters: Any = None) -> None:
        """Run a statement and fetch its rows."""
        self._take(_executed, operation, () if parameters is None else parameters)

    def executemany(self, operation: Any, seq_of_parameters: Any) -> None:
        """Run a statement for each of these parameters."""
        self._take(_executed_many, operation, seq_of_parameters)

    def close(self) -> None:
        """Let go of the rows."""
        self._rows.clear()

    @property
    def description(self) -> Any:
        """Return what is known of the columns."""
        return self._told.description

    @property
    def rowcount(self) -> int:
        """Return how many rows were written."""
        return self._told.rowcount

    @property
    def lastrowid(self) -> Any:
        """Return the key of the last row that was inserted."""
        return self._told.lastrowid

    @property
    def arraysize(self) -> int:
        """Return how many rows `fetchmany` returns if nobody says."""
        return self._size

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        self._size = value

    def _take(self, work: Callable[..., _Told], *arguments: Any) -> None:
        connection: Any = self._adapt_connection
        driver: Any = self._connection
        try:
            self._told = await_(driver._execute(work, driver._conn, *arguments))
        except Exception as error:  # noqa: BLE001 - SQLAlchemy raises it again
            connection._handle_exception(error)
        except BaseException:
            connection.was_cut = True
            raise
        self._rows = deque(self._told.rows)


class _OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """
    A connection that makes no trip to end a transaction that was never begun.

    Attributes:
        was_cut: Whether a statement was left to the thread by somebody who does not wait for it any more.
        has_streamed: Whether it may have a cursor that is read bit by bit.
    """

    __slots__ = ("has_streamed", "was_cut")
    _cursor_cls: Any = _OneTripCursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.was_cut = self.has_streamed = False

    def cursor(self, server_side: bool = False) -> Any:
        """Return a new cursor."""
        self.has_streamed = self.has_streamed or server_side
        return super().cursor(server_side)

    def interrupt(self) -> None:
        """
        End the statement that nobody waits for any more.

        Not beside a cursor that is read bit by bit: while that is open, SQLite would interrupt the next statement too,
        the ROLLBACK (sqlite.org/c3ref/interrupt.html).
        """
        raw: Any = getattr(self._connection, "_connection", None)
        if raw is not None and self.was_cut and not self.has_streamed:
            raw.interrupt()

    def rollback(self) -> None:
        """Roll back."""
        if self._is_in_transaction:
            super().rollback()

    def commit(self) -> None:
        """Commit."""
        if self._is_in_transaction:
            super().commit()

    @property
    def _is_in_transaction(self) -> bool:
        driver: Any = self._connection
        raw = driver._connection
        return raw is not None and (driver.asked != driver.done or raw.in_transaction)  # what runs may yet begin one


class _Counted(aiosqlite.Connection):
    """
    A connection of aiosqlite that knows whether its thread has done all that it was asked for.

    Attributes:
        asked: How much it was asked for; only the event loop counts here.
        done: How much is done; only the thread counts here.
    """

    asked = done = 0

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        own: Any = super()
        return await own._execute(self._do, fn, *args, **kwargs)

    def _do(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            self.done += 1


class _OneTripDriver(AsyncAdapt_aiosqlite_dbapi):
    """aiosqlite as SQLAlchemy sees it, with connections of these."""

    def connect(self, *arg: Any, **kw: Any) -> _OneTripConnection:
        """Return a new connection, made as SQLAlchemy makes it."""
        driver: Any = super().connect(*arg, **kw)._connection
        driver.__class__ = _Counted
        return _OneTripConnection(self, driver)


# -- in the thread


def _executed(raw: sqlite3.Connection, operation: str, parameters: Any) -> _Told:
    cursor = raw.cursor()
    try:
        cursor.execute(operation, parameters)
        rows = cursor.fetchall() if cursor.description else ()
        return _Told(cursor.description, rows, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()  # here, and not when a traceback lets go of it


def _executed_many(raw: sqlite3.Connection, operation: str, parameters: Any) -> _Told:
    cursor = raw.cursor()
    try:
        cursor.executemany(operation, parameters)
        return _Told(rowcount=cursor.rowcount, lastrowid=cursor.lastrowid)
    finally:
        cursor.close()
