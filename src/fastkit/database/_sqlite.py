"""SQLite that behaves: real transactions, WAL, foreign keys, and writers that wait instead of failing."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolResetState, QueuePool

from fastkit.database._backend import MODE, PATIENCE, Backend, mode_of
from fastkit.database._modes import Mode
from fastkit.database._rows import listen_as_own
from fastkit.database.timeouts import Timeouts, milliseconds
from fastkit.errors import DeclarationError

QUERY_ONLY, STOPWATCH = "fastkit_query_only", "fastkit_stopwatch"
INSTRUCTIONS_BETWEEN_CHECKS = 10_000


class SQLiteBackend(Backend):
    """
    Connection set-up of SQLite, for sqlite3 and aiosqlite.

    Source: sqlite.org/lang_transaction.html, sqlite.org/wal.html, sqlite.org/pragma.html.
    """

    def engine_options(self, url: URL, timeouts: Timeouts) -> dict[str, Any]:
        """Return options for a pool of real connections; refuse a database that lives in one connection only."""
        name = url.database or ":memory:"
        if name == ":memory:" or "mode=memory" in name or url.query.get("mode") == "memory":
            driver = url.drivername
            raise DeclarationError(
                "An in-memory SQLite database lives in one connection, so all requests would share one transaction. "
                f"Use a file ({driver}:///shop.db) or, for tests, {driver}:///file:/shop?vfs=memdb&uri=true."
            )
        options: dict[str, Any] = {"poolclass": QueuePool, "connect_args": {"timeout": timeouts.lock}}
        if url.get_dialect().is_async:
            options["poolclass"] = AsyncAdaptedQueuePool
            with suppress(ImportError):  # told when the engine is made, if it is the driver that is missing
                options["module"] = import_module("fastkit.database._aiosqlite").adapted()
        return options

    def attach(self, engine: Engine, timeouts: Timeouts) -> None:
        """Add the connection events."""

        def connect(dbapi: Any, record: Any) -> None:
            dbapi.isolation_level = None  # the driver never sends BEGIN by itself; the `begin` event does
            cursor = dbapi.cursor()
            cursor.execute(f"PRAGMA busy_timeout={timeouts.lock_ms}")
            _use_wal(cursor)
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

        event.listen(engine, "connect", connect)
        listen_as_own(engine, "begin", _begin)
        event.listen(engine, "reset", _reset)
        event.listen(engine, "checkin", _checkin)
        if engine.dialect.driver == "aiosqlite":
            engine.dialect.do_terminate = _terminate  # type: ignore[assignment]  # for this engine only

    def cut(self, driver: Any) -> None:
        """Interrupt the statement that runs in aiosqlite's thread."""
        driver._connection.interrupt()  # noqa: SLF001 - its own interrupt() must be awaited

    def lock(self, connection: Connection, name: str, seconds: float) -> bool:
        """Do nothing: BEGIN IMMEDIATE has made this transaction the only one that may write, whatever the name."""
        return True

    def engine_for(self, engine: Engine, mode: Mode) -> Engine:
        """Return an engine with only the mode: SQLite is always serializable, which satisfies every isolation level."""
        view = engine.execution_options(**{MODE: mode})
        if mode.timeout:
            listen_as_own(view, "before_cursor_execute", _restart_stopwatch)
        return view


def _use_wal(cursor: Any) -> None:
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:  # the rest of the code says why
            raise  # a file that may only be read stays as it is


def _begin(connection: Connection) -> None:
    mode = mode_of(connection)
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT" or (mode and mode.autocommit):
        return
    if mode is None or not mode.read_only:
        # A deferred transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT; this one waits.
        _begin_immediate(connection)
    else:
        if not mode.is_checked:  # three trips to aiosqlite's thread for each of the two
            connection.info[QUERY_ONLY] = True
            connection.exec_driver_sql("PRAGMA query_only=ON")
        connection.exec_driver_sql("BEGIN")
    if mode and mode.timeout:
        _limit(connection, mode.timeout)


def _begin_immediate(connection: Connection) -> None:
    seconds = connection.get_execution_options().get(PATIENCE)
    if seconds is None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    usual = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    connection.exec_driver_sql(f"PRAGMA busy_timeout={milliseconds(seconds) if seconds else 0}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={usual}")


def _limit(connection: Connection, seconds: float) -> None:
    """Let SQLite ask, every few thousand instructions, whether the statement has used up its time."""
    stopwatch = connection.info[STOPWATCH] = [time.monotonic() + seconds, seconds]
    _set_progress_handler(connection.connection.dbapi_connection, lambda: time.monotonic() > stopwatch[0])


def _restart_stopwatch(connection: Connection, cursor: Any, sent: str, parameters: Any, *_: Any) -> tuple[str, Any]:
    if stopwatch := connection.info.get(STOPWATCH):
        stopwatch[0] = time.monotonic() + stopwatch[1]
    return sent, parameters


def _set_progress_handler(dbapi: Any, handler: Any) -> None:
    if hasattr(dbapi, "run_async"):
        dbapi.run_async(lambda driver: driver.set_progress_handler(handler, INSTRUCTIONS_BETWEEN_CHECKS))
    else:
        dbapi.set_progress_handler(handler, INSTRUCTIONS_BETWEEN_CHECKS)


def _reset(dbapi: Any, record: Any, state: PoolResetState) -> None:
    """Leave nothing of a transaction behind for the next user of the connection."""
    if not state.asyncio_safe:
        return  # outside the event loop nothing can be sent; SQLAlchemy throws such a connection away
    if getattr(dbapi, "driver_connection", dbapi).in_transaction:
        dbapi.rollback()  # SQLite keeps the transaction open when COMMIT fails; SQLAlchemy believes it gone
    if record.info.pop(QUERY_ONLY, False):
        cursor = dbapi.cursor()
        cursor.execute("PRAGMA query_only=OFF")
        cursor.close()
    if record.info.pop(STOPWATCH, None):
        _set_progress_handler(dbapi, None)


def _terminate(dbapi: Any) -> None:
    """
    Throw a connection of aiosqlite away: interrupt it, roll back, close, stop its thread, without awaiting any of it.

    A statement that was cut off may still be referred to by a traceback. SQLite then only pretends to close, and keeps
    the transaction, and with it the write lock, until the garbage collector comes (sqlite.org/c3ref/close.html); so the
    rollback. Awaiting the end, as SQLAlchemy does, never ends if a second cancellation stops the thread in between.
    """
    driver = dbapi.driver_connection
    connection = driver._connection  # noqa: SLF001 - aiosqlite has no way to queue work without awaiting it

    def end() -> None:
        with suppress(sqlite3.Error):
            connection.rollback()
        driver.stop()  # called in the thread that it stops, it tells no event loop, which may be closed by then

    if hasattr(dbapi, "interrupt"):
        dbapi.interrupt()
    driver.stop() if connection is None else driver._tx.put_nowait((None, end))  # noqa: SLF001 - same


def _checkin(dbapi: Any, record: Any) -> None:
    # SQLAlchemy's AUTOCOMMIT option puts the driver back into its own transaction mode when it is reset.
    if dbapi is not None and dbapi.isolation_level is not None:
        dbapi.isolation_level = None
