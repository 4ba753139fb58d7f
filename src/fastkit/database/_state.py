"""What a database is in both colours: its engines, its pool, its replicas, and who holds a connection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from sqlalchemy import Engine, Pool, event
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import AssertionPool, QueuePool, SingletonThreadPool, StaticPool

from fastkit.database._backend import Backend
from fastkit.database._connection import own_connections
from fastkit.database._ledger import Ledger
from fastkit.database._listeners import watch
from fastkit.database._modes import PLAIN, Mode
from fastkit.database._replicas import Replicas
from fastkit.database._spending import can_be_counted
from fastkit.database._values import refuse_unreadable
from fastkit.database.timeouts import Timeouts
from fastkit.errors import DatabaseClosedError, DeclarationError
from fastkit.pages import Signer

log = logging.getLogger("fastkit.database")

MODES_REMEMBERED = 64


class DatabaseState:
    """What both colours share: the engines for each mode, and whether the database still takes work."""

    is_async: ClassVar[bool]
    ledger: Ledger
    _sync_engine: Engine

    def __init__(self, timeouts: Timeouts, cursor_keys: Sequence[str | bytes] = (), *, owns_engine: bool) -> None:
        self.timeouts = timeouts
        self.signer = Signer(cursor_keys) if cursor_keys else None
        self._owns_engine = owns_engine
        self._closed = False
        self._counted = 0
        self._counting = threading.Lock()
        self._engines: dict[Mode, Engine] = {}
        self._replicas: Replicas[Any] = Replicas(())

    def _adopt(self, engine: Engine, backend: Backend) -> None:
        if isinstance(engine.pool, StaticPool | SingletonThreadPool | AssertionPool):
            raise DeclarationError(
                f"A {type(engine.pool).__name__} gives everybody the same connection, so all units of work would share "
                "one transaction. Use a file, or sqlite:///file:/shop?vfs=memdb&uri=true, with the default pool."
            )
        levels = {engine.get_execution_options().get("isolation_level"), engine.dialect._on_connect_isolation_level}  # noqa: SLF001 - no public word
        if "AUTOCOMMIT" in levels:
            raise DeclarationError(
                "An engine in AUTOCOMMIT stores each statement at once, so no unit of work could be rolled back. Leave "
                "isolation_level out: reads outside a block do without a transaction anyway."
            )
        self._sync_engine = own_connections(engine)
        self._backend = backend
        backend.attach(engine, self.timeouts)
        refuse_unreadable(engine)
        watch(engine)
        can_be_counted(engine.dialect)
        if not isinstance(engine.pool, QueuePool):  # which counts for itself
            event.listen(engine, "checkout", lambda *_: self._count(1))
            event.listen(engine, "checkin", lambda *_: self._count(-1))
        self.ledger = Ledger(engine, backend, self.timeouts, self.capacity)

    def _count(self, more: int) -> None:
        with self._counting:
            self._counted += more

    @property
    def dialect(self) -> Dialect:
        """Return what SQLAlchemy knows of the kind of database."""
        return self._sync_engine.dialect

    @property
    def dialect_name(self) -> str:
        """Return the kind of database: "sqlite", "postgresql", "mariadb" or "mysql"."""
        return self._sync_engine.dialect.name

    @property
    def pool(self) -> Pool:
        """Return the pool of connections."""
        return self._sync_engine.pool

    @property
    def capacity(self) -> int | None:
        """Return how many connections can be in use at once, or None if the pool has no limit."""
        pool = self._sync_engine.pool
        if not isinstance(pool, QueuePool) or pool._max_overflow < 0:  # noqa: SLF001 - the pool has no public word for it
            return None
        return pool.size() + pool._max_overflow  # noqa: SLF001 - same

    def _warn_of_connections_in_use(self) -> None:
        if left := self.checked_out:
            log.warning("Closing although %d connection(s) did not come back in %s s.", left, self.timeouts.drain)

    @property
    def checked_out(self) -> int:
        """Return how many connections are in use now."""
        pool = self._sync_engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else self._counted

    def engine_for(self, mode: Mode) -> Engine:
        """
        Return the engine whose connections run transactions in this mode; all of them share one pool.

        Raises:
            DatabaseClosedError: The database was closed, usually because the app is shutting down.
        """
        if mode is PLAIN and not self._closed:
            return self._sync_engine  # nearly always; it has no options, and is quicker
        if self._closed:
            raise DatabaseClosedError("The database is closed: the app is shutting down, or close() was called.")
        if mode.replica and (replica := self._replicas.next()) is not None:
            return cast("Engine", replica.engine_for(mode))
        engine = self._engines.get(mode)
        if engine is None:
            if len(self._engines) >= MODES_REMEMBERED:
                self._engines.clear()  # an app that computes its timeouts has new modes for ever
            engine = self._engines[mode] = own_connections(self._backend.engine_for(self._sync_engine, mode))
        return engine

    def avoid(self, engine: Engine) -> None:
        """Note that no connection to this engine could be made, so that another replica, or the primary, serves."""
        self._replicas.avoid(engine)

    def __repr__(self) -> str:
        url = self._sync_engine.url.set(query={}).render_as_string(hide_password=True)  # a query may hold one, too
        return f"<{type(self).__name__} {url} checked_out={self.checked_out} capacity={self.capacity}>"
