"""MariaDB (and MySQL) through PyMySQL or asyncmy: limits set at connect, modes set as the transaction begins."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import PoolResetState

from fastkit.database._backend import MODE, Backend, mode_of
from fastkit.database._liveness import ask_rested_connections
from fastkit.database._modes import Mode
from fastkit.database._rows import listen_as_own
from fastkit.database.timeouts import Timeouts, milliseconds
from fastkit.errors import UnavailableError

OWN_LIMIT, NAMED_LOCKS = "fastkit_own_limit", "fastkit_named_locks"


class MariaDBBackend(Backend):
    """Connection set-up of MariaDB."""

    def engine_options(self, url: URL, timeouts: Timeouts) -> dict[str, Any]:
        """Return options that replace a connection before the server drops it."""
        return {
            "pool_recycle": 1800,
            "connect_args": {"connect_timeout": math.ceil(timeouts.connect), "charset": "utf8mb4"},
        }

    def attach(self, engine: Engine, timeouts: Timeouts) -> None:
        """Add the connection events."""

        def connect(dbapi: Any, record: Any) -> None:
            _send(dbapi, f"SET SESSION innodb_lock_wait_timeout={math.ceil(timeouts.lock)}")
            _send(dbapi, _statement_limit(engine, timeouts.statement))

        def reset(dbapi: Any, record: Any, state: PoolResetState) -> None:
            if state.asyncio_safe and record.info.pop(OWN_LIMIT, False):
                _send(dbapi, _statement_limit(engine, timeouts.statement))
            if state.asyncio_safe and record.info.pop(NAMED_LOCKS, False):
                _send(dbapi, "DO RELEASE_ALL_LOCKS()")  # after COMMIT: whoever is next has to see what it stored

        event.listen(engine, "connect", connect)
        listen_as_own(engine, "begin", _begin)
        event.listen(engine, "reset", reset)
        ask_rested_connections(engine)

    def cut(self, driver: Any) -> None:
        """Close the socket."""
        driver.close()

    def lock(self, connection: Connection, name: str, seconds: float) -> bool:
        """
        Take a lock of the session, which the pool's `reset` event releases.

        Source: mariadb.com/kb/en/get_lock.

        Raises:
            UnavailableError: The server could not tell whether it gave the lock.
        """
        connection.info[NAMED_LOCKS] = True  # before it is known: a lock too many is released, not one too few
        answer = connection.exec_driver_sql(_get_lock(connection), (_full_name(connection, name), seconds)).scalar()
        if answer is None:
            raise UnavailableError(
                f"lock({name!r}): MariaDB ran out of memory or was told to stop while it took the lock. Try again."
            )
        return bool(answer)

    def engine_for(self, engine: Engine, mode: Mode) -> Engine:
        """Return an engine with only the mode; the `begin` event sends what it needs."""
        return engine.execution_options(**{MODE: mode})


def _begin(connection: Connection) -> None:
    mode = mode_of(connection)
    if mode is None or mode.autocommit:
        return
    if mode.timeout:
        connection.info[OWN_LIMIT] = True
        connection.exec_driver_sql(_statement_limit(connection.engine, mode.timeout))
    isolation = mode.isolation if mode.isolation != connection.default_isolation_level else None
    if isolation:
        # Without SESSION it holds for one transaction: the one that the next line starts.
        connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
    if isolation or mode.read_only:
        connection.exec_driver_sql("START TRANSACTION READ ONLY" if mode.read_only else "START TRANSACTION")


def _get_lock(connection: Connection) -> str:
    """Return the statement whose own limit is the only one: the one for statements may be shorter."""
    if getattr(connection.dialect, "is_mariadb", True):
        return "SET STATEMENT max_statement_time=0 FOR SELECT GET_LOCK(%s, %s)"
    return "SELECT /*+ MAX_EXECUTION_TIME(0) */ GET_LOCK(%s, %s)"


def _full_name(connection: Connection, name: str) -> str:
    """Return what a lock is called on the server, where all databases share the names, of at most 64 characters."""
    whole = f"{connection.dialect.default_schema_name}\0{name}"
    return "fastkit." + hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def _statement_limit(engine: Engine, seconds: float) -> str:
    if getattr(engine.dialect, "is_mariadb", True):
        return f"SET SESSION max_statement_time={seconds}"
    return f"SET SESSION max_execution_time={milliseconds(seconds)}"  # MySQL: SELECT only


def _send(dbapi: Any, statement: str) -> None:
    cursor = dbapi.cursor()
    cursor.execute(statement)
    cursor.close()
