"""A connection that is given back although taking it was cancelled half-way."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine


class OwnedConnection(Connection):
    """
    Same as `Connection`, but nothing is lost if an error or a cancellation comes while it is made.

    An engine with options (isolation level, read-only mode) sets them when the pool has handed out the connection. With
    some drivers that waits for the server. Cancelled there, SQLAlchemy leaves the connection to the garbage collector.
    """

    def __init__(self, engine: Engine, *arguments: Any, **options: Any) -> None:
        try:
            super().__init__(engine, *arguments, **options)
            self._prepare()
        except BaseException:
            taken = getattr(self, "_dbapi_connection", None)
            if taken is not None:
                taken.invalidate()
            raise

    def _prepare(self) -> None:
        """Set up what the pool has handed out."""


class AutocommitConnection(OwnedConnection):
    """
    A connection of PostgreSQL for statements that are complete in themselves.

    As by `isolation_level="AUTOCOMMIT"`, for which SQLAlchemy needs an event, two checks and a reset of the level, with
    psycopg four locks of asyncio: a twentieth of the time of a small read.
    """

    def _prepare(self) -> None:
        taken: Any = self._dbapi_connection
        taken.dbapi_connection.autocommit = True
        record = taken._connection_record  # noqa: SLF001 - as SQLAlchemy does
        record.finalize_callback.append(partial(_leave_autocommit, record))

    def _is_autocommit_isolation(self) -> bool:
        return True  # said in the log


def _leave_autocommit(record: Any, dbapi: Any) -> None:
    try:
        dbapi.autocommit = False
    except Exception as error:  # noqa: BLE001 - raised from here, it would cost the pool the place of the connection
        record.invalidate(error)


def own_connections(engine: Engine) -> Engine:
    """Let an engine make such connections; return it."""
    if engine._connection_cls is Connection:  # noqa: SLF001 - there is no public way
        engine._connection_cls = OwnedConnection  # noqa: SLF001 - same
    return engine
