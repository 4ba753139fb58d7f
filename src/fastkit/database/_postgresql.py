"""PostgreSQL through asyncpg or psycopg: limits set at connect, modes set as the transaction begins."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import URL

from fastkit.database._backend import MODE, Backend, mode_of
from fastkit.database._liveness import ask_rested_connections
from fastkit.database._modes import Mode
from fastkit.database.timeouts import Timeouts, milliseconds


class PostgreSQLBackend(Backend):
    """Connection set-up of PostgreSQL."""

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
        event.listen(engine, "begin", _begin)
        ask_rested_connections(engine)

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

    def cut(self, driver: Any) -> None:
        """Close the socket; psycopg must not lose its descriptor, or it would wait for it for ever."""
        if hasattr(driver, "terminate"):
            driver.terminate()
        else:
            with socket.socket(fileno=os.dup(driver.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)

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


def _begin(connection: Connection) -> None:
    mode = mode_of(connection)
    if mode and mode.timeout:
        # SET LOCAL ends with the transaction, also behind a pooler such as PgBouncer.
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds(mode.timeout)}")
