"""MariaDB (and MySQL) through PyMySQL or asyncmy: limits set at connect, modes set as the transaction begins."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import PoolResetState

from fastkit.database._backend import MODE, Backend, mode_of
from fastkit.database._liveness import ask_rested_connections
from fastkit.database._modes import Mode
from fastkit.database.timeouts import Timeouts, milliseconds

OWN_LIMIT = "fastkit_own_limit"


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

        event.listen(engine, "connect", connect)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "reset", reset)
        ask_rested_connections(engine)

    def cut(self, driver: Any) -> None:
        """Close the socket."""
        driver.close()

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


def _statement_limit(engine: Engine, seconds: float) -> str:
    if getattr(engine.dialect, "is_mariadb", True):
        return f"SET SESSION max_statement_time={seconds}"
    return f"SET SESSION max_execution_time={milliseconds(seconds)}"  # MySQL: SELECT only


def _send(dbapi: Any, statement: str) -> None:
    cursor = dbapi.cursor()
    cursor.execute(statement)
    cursor.close()
