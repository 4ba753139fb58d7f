"""PostgreSQL through asyncpg or psycopg: limits set at connect, modes set as the transaction begins."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

from fastkit.database._backend import MODE, mode_of
from fastkit.database._modes import Mode
from fastkit.database.timeouts import Timeouts, milliseconds


class PostgreSQLBackend:
    """Connection set-up of PostgreSQL."""

    def engine_options(self, url: URL, timeouts: Timeouts) -> dict[str, Any]:
        """Return options that ping a connection before use and bound each statement and each lock."""
        limits = {"statement_timeout": str(timeouts.statement_ms), "lock_timeout": str(timeouts.lock_ms)}
        connect_args: dict[str, Any]
        if url.get_driver_name() == "asyncpg":
            connect_args = {"timeout": timeouts.connect, "server_settings": limits}
        else:
            options = " ".join(f"-c {name}={value}" for name, value in limits.items())
            connect_args = {"connect_timeout": math.ceil(timeouts.connect), "options": options}
        return {"pool_pre_ping": True, "connect_args": connect_args}

    def attach(self, engine: Engine, timeouts: Timeouts) -> None:
        """Add the event that sets a block's own statement timeout."""
        event.listen(engine, "begin", _begin)

    def engine_for(self, engine: Engine, mode: Mode) -> Engine:
        """Return an engine with options that the drivers send with BEGIN, so that a mode costs no statement."""
        if mode.autocommit:
            return engine.execution_options(**{MODE: mode, "isolation_level": "AUTOCOMMIT"})
        options: dict[str, Any] = {MODE: mode}
        if mode.isolation:
            # PostgreSQL has no dirty reads; asyncpg does not even know their name.
            weakest = mode.isolation == "READ UNCOMMITTED"
            options["isolation_level"] = "READ COMMITTED" if weakest else mode.isolation
        if mode.read_only:
            options["postgresql_readonly"] = True
        return engine.execution_options(**options)


def _begin(connection: Connection) -> None:
    mode = mode_of(connection)
    if mode and mode.timeout:
        # SET LOCAL ends with the transaction, also behind a pooler such as PgBouncer.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds(mode.timeout)}")
