"""PostgreSQL through asyncpg or psycopg: limits set at connect, modes set as the transaction begins."""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.pool import PoolResetState

from fastkit.database._backend import MODE, Backend, mode_of
from fastkit.database._connection import AutocommitConnection
from fastkit.database._liveness import ask_rested_connections
from fastkit.database._modes import Mode
from fastkit.database._rows import listen_as_own, look_through
from fastkit.database.timeouts import Timeouts, milliseconds

HALF_SENT = "fastkit_half_sent"
"""Key under which a pooled connection of asyncpg knows that it has to be told where a statement ends."""

_TRY_LOCK = text(
    "SELECT pg_try_advisory_xact_lock(CAST(:key AS bigint)),"
    " current_setting('lock_timeout'), current_setting('statement_timeout')"
)
_WAIT_FOR_LOCK = text("SELECT pg_advisory_xact_lock(CAST(:key AS bigint))")
_SET_LIMITS = text(
    "SELECT set_config('lock_timeout', CAST(:lock AS text), true),"
    " set_config('statement_timeout', CAST(:statement AS text), true)"
)


class PostgreSQLBackend(Backend):
    """Connection set-up of PostgreSQL."""

    shares_snapshots: ClassVar[bool] = True

    def engine_options(self, url: URL, timeouts: Timeouts) -> dict[str, Any]:
        """Return options that bound each statement and each lock."""
        limits = {"statement_timeout": str(timeouts.statement_ms), "lock_timeout": str(timeouts.lock_ms)}
        connect_args: dict[str, Any]
        if url.get_driver_name() == "asyncpg":
            connect_args = {"timeout": timeouts.connect, "server_settings": limits}
        else:
            options = " ".join(f"-c {name}={value}" for name, value in limits.items())
            connect_args = {"connect_timeout": math.ceil(timeouts.connect), "options": options}
        return {"connect_args": connect_args}

    def joined(self, url: URL, limits: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep the limits beside the app's own settings of the session, which come last and win."""
        if "server_settings" in limits:
            return {**own, "server_settings": {**limits["server_settings"], **own.get("server_settings", {})}}
        asked = own.get("options") or url.query.get("options") or os.environ.get("PGOPTIONS", "")
        return {**own, "options": f"{limits['options']} {asked}".strip()}

    def attach(self, engine: Engine, timeouts: Timeouts) -> None:
        """Add the events that set a block's own statement timeout and that find connections which the server closed."""
        self.listen_to_begin(engine, timeouts)
        if engine.dialect.driver == "asyncpg":
            event.listen(engine, "handle_error", _note_half_sent)
            event.listen(engine, "reset", _tidy)
        ask_rested_connections(engine)

    def listen_to_begin(self, engine: Engine, timeouts: Timeouts) -> None:
        """Set a block's own limit as its transaction begins."""
        listen_as_own(engine, "begin", _begin)

    def engine_for(self, engine: Engine, mode: Mode) -> Engine:
        """Return an engine with options that the drivers send with BEGIN, so that a mode costs no statement."""
        if mode.autocommit:
            view = view_of(engine, {MODE: mode})
            view._connection_cls = AutocommitConnection  # noqa: SLF001 - there is no public way
            return view
        options: dict[str, Any] = {MODE: mode}
        if mode.isolation:
            # PostgreSQL has no dirty reads; asyncpg does not even know their name.
            weakest = mode.isolation == "READ UNCOMMITTED"
            options["isolation_level"] = "READ COMMITTED" if weakest else mode.isolation
        if mode.read_only:
            options["postgresql_readonly"] = True
        return view_of(engine, options)

    def cut(self, driver: Any) -> None:
        """Close the socket; psycopg must not lose its descriptor, or it would wait for it for ever."""
        if hasattr(driver, "terminate"):
            driver.terminate()
        else:
            with socket.socket(fileno=os.dup(driver.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)

    def lock(self, connection: Connection, name: str, seconds: float) -> bool:
        """
        Take a lock of the transaction: at once if it is free, else by a wait with limits of its own.

        Source: postgresql.org/docs/current/functions-admin.html, "Advisory Lock Functions".
        """
        parameters = {"key": lock_key(name)}
        given, *usual = connection.execute(_TRY_LOCK, parameters).one()
        if given or not seconds:
            return bool(given)
        # The limit for statements may be shorter than the one for the lock.
        connection.execute(_SET_LIMITS, {"lock": str(milliseconds(seconds)), "statement": "0"})
        connection.execute(_WAIT_FOR_LOCK, parameters)  # an error takes the limits back, with the transaction
        connection.execute(_SET_LIMITS, dict(zip(("lock", "statement"), usual, strict=True)))
        return True

    def number_of(self, connection: Connection) -> str | None:
        """Return the transaction id, which PostgreSQL gives with the first write."""
        number = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text").scalar()
        return None if number is None else str(number)

    def was_committed(self, connection: Connection, number: str) -> bool | None:
        """
        Return what became of a transaction, or None while it is in progress or if it is too old to be known.

        Source: postgresql.org/docs/current/functions-info.html, "Transaction ID and Snapshot Information Functions".
        """
        query = text("SELECT pg_xact_status(CAST(CAST(:number AS text) AS xid8))")
        return {"committed": True, "aborted": False}.get(connection.execute(query, {"number": number}).scalar() or "")


def view_of(engine: Engine, options: Mapping[str, Any]) -> Engine:
    """Return a view of the engine, on the same pool, with further execution options."""
    return look_through(engine.execution_options(**options))


def lock_key(name: str) -> int:
    """Return the 64 bits that stand for the name of a lock, the same in every process and every version."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"fastkit.lock").digest()
    return int.from_bytes(digest, "big", signed=True)


def _begin(connection: Connection) -> None:
    mode = mode_of(connection)
    if mode and mode.timeout:
        # SET LOCAL ends with the transaction, also behind a pooler such as PgBouncer.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds(mode.timeout)}")


def _note_half_sent(context: ExceptionContext) -> None:
    """
    Note that asyncpg has refused a value by itself, such as a number that is too large.

    It has sent the statement without the message that ends it, so the server is in a transaction that asyncpg does not
    know of, and the next BEGIN with an isolation level fails.
    """
    said = getattr(context.original_exception, "__cause__", None)
    is_of_server = getattr(said, "severity", None) is not None
    connection = context.connection
    if said is None or is_of_server or connection is None or connection.invalidated or context.is_disconnect:
        return
    connection.info[HALF_SENT] = True


def _tidy(dbapi: Any, record: Any, state: PoolResetState) -> None:
    """Leave nothing to the next user of a connection: no half statement, no transaction that nobody knows of."""
    if not state.asyncio_safe:
        return
    if record.info.pop(HALF_SENT, False):
        dbapi.run_async(lambda driver: driver.execute("SELECT 1"))
    driver = dbapi.driver_connection
    if dbapi.autocommit and driver.is_in_transaction():  # by a text that said BEGIN
        dbapi.run_async(lambda driver: driver.execute("ROLLBACK"))
    if getattr(driver, "_top_xact", None) is not None and not driver.is_in_transaction():
        driver._top_xact = None  # noqa: SLF001 - or asyncpg takes every later transaction for a savepoint of this one
