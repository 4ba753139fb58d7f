"""A connection that is given back although taking it was cancelled half-way."""

from __future__ import annotations

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

    What SQLAlchemy does for `isolation_level="AUTOCOMMIT"` by an event, two checks and a reset of the level, which with
    psycopg takes four locks of asyncio: a tenth of the time of a small read.
    """

    def _prepare(self) -> None:
        taken: Any = self._dbapi_connection
        taken.dbapi_connection.autocommit = True
        taken._connection_record.finalize_callback.append(_leave_autocommit)  # noqa: SLF001 - as SQLAlchemy does

    def _is_autocommit_isolation(self) -> bool:
        return True  # said in the log


def _leave_autocommit(dbapi: Any) -> None:
    dbapi.autocommit = False


def own_connections(engine: Engine) -> Engine:
    """Let an engine make such connections; return it."""
    if engine._connection_cls is Connection:  # noqa: SLF001 - there is no public way
        engine._connection_cls = OwnedConnection  # noqa: SLF001 - same
    return engine
