"""PostgreSQL behind PgBouncer in transaction mode: each transaction may run on another connection of the server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

from fastkit.database._backend import MODE, mode_of
from fastkit.database._modes import Mode
from fastkit.database._postgresql import PostgreSQLBackend, view_of
from fastkit.database.timeouts import Timeouts, milliseconds
from fastkit.errors import DeclarationError

_WITHOUT_CACHES = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}

_SET_LIMITS = "SELECT set_config('statement_timeout', '{statement}', true), set_config('lock_timeout', '{lock}', true)"


class PgBouncerBackend(PostgreSQLBackend):
    """
    Same as PostgreSQL, but nothing lives longer than a transaction: no prepared statement, no setting of the session.

    Source: pgbouncer.org/features.html, "SQL feature map for pooling modes".
    """

    # The transaction that has the snapshot would wait for others, which wait for connections that the like of it hold.
    shares_snapshots: ClassVar[bool] = False

    def engine_options(self, url: URL, timeouts: Timeouts) -> dict[str, Any]:
        """Return options without prepared statements, and without the startup parameters that PgBouncer refuses."""
        if url.get_driver_name() == "asyncpg":
            # Without a name function: with caches of size 0 the unnamed statement is parsed beside its execution.
            return {"connect_args": {"timeout": timeouts.connect, **_WITHOUT_CACHES}}
        return {"connect_args": {"connect_timeout": math.ceil(timeouts.connect), "prepare_threshold": None}}

    def joined(self, url: URL, limits: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the app's own arguments: the limits are none of them."""
        return own

    def attach(self, engine: Engine, timeouts: Timeouts) -> None:
        """Add the events of PostgreSQL, limits for each transaction, and a check of each new connection."""
        super().attach(engine, timeouts)
        # Before SQLAlchemy's own first statements, which would be prepared.
        event.listen(engine, "connect", _refuse_prepared_statements, insert=True)

    def listen_to_begin(self, engine: Engine, timeouts: Timeouts) -> None:
        """Set both limits as a transaction begins, for it alone: one statement more."""
        lock = timeouts.lock_ms

        def begin(connection: Connection) -> None:
            if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
                return  # an engine of the app's own; there is no transaction that could have limits
            mode = mode_of(connection)
            statement = milliseconds(mode.timeout) if mode and mode.timeout else timeouts.statement_ms
            connection.exec_driver_sql(_SET_LIMITS.format(statement=statement, lock=lock))

        event.listen(engine, "begin", begin)  # not as our own: a read outside a block must not leave it out

    def engine_for(self, engine: Engine, mode: Mode) -> Engine:
        """Return an engine for the mode; a read outside a block has a transaction too, or it would have no limits."""
        if mode.autocommit:
            return view_of(engine, {MODE: mode, "postgresql_readonly": True})
        return super().engine_for(engine, mode)


def _refuse_prepared_statements(dbapi: Any, record: Any) -> None:
    """
    Let no connection be used that prepares statements by name, as one of an engine of the app's own may do.

    Raises:
        DeclarationError: It does.
    """
    wrong = _wrong_arguments(dbapi)
    if wrong:
        raise DeclarationError(
            "pgbouncer=True: this engine prepares statements, which the next transaction would look for on another "
            f"connection of the server. Its connect_args must be {{{', '.join(wrong)}}} and name no function: set them,"
            " or give a URL and leave them to fastkit."
        )


def _wrong_arguments(dbapi: Any) -> list[str]:
    driver = dbapi.driver_connection if hasattr(dbapi, "driver_connection") else dbapi
    if hasattr(driver, "prepare_threshold"):
        return [] if driver.prepare_threshold is None else ["'prepare_threshold': None"]
    named = dbapi._prepared_statement_name_func() is not None  # noqa: SLF001 - no public word
    cached = driver._config.statement_cache_size or dbapi._prepared_statement_cache is not None  # noqa: SLF001 - same
    return [f"'{name}': 0" for name in _WITHOUT_CACHES] if named or cached else []
