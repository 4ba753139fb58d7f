"""Ask a connection that has rested whether it is still alive, before it is handed out."""

from __future__ import annotations

from time import monotonic
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

RESTED = 1.0
"""Seconds. Asking each time costs asyncpg three round trips before each read; HikariCP's window is half a second."""

_USED = "fastkit_used"


def ask_rested_connections(engine: Engine) -> None:
    """Replace a connection that the server closed while it rested in the pool; what was used just now is trusted."""

    def checkin(dbapi: Any, record: Any) -> None:
        record.info[_USED] = monotonic()

    def checkout(dbapi: Any, record: Any, proxy: Any) -> None:
        used = record.info.get(_USED)
        if used is not None and monotonic() - used > RESTED and not _answers(engine, dbapi):
            raise InvalidatePoolError

    event.listen(engine, "checkin", checkin)
    event.listen(engine, "checkout", checkout)


def _answers(engine: Engine, dbapi: Any) -> bool:
    dialect = engine.dialect
    try:
        return dialect.do_ping(dbapi)
    except dialect.loaded_dbapi.Error as error:
        if dialect.is_disconnect(error, dbapi, None):
            return False
        raise
