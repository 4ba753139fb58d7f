"""What units of work tell their database about themselves, and ask it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from weakref import ref

from sqlalchemy import Connection, Engine, Pool
from sqlalchemy.util import await_only

from fastkit.database._backend import Backend
from fastkit.database._fan_out import Slots
from fastkit.database._fork import in_every_child
from fastkit.database.timeouts import Timeouts


class Request:
    """What owns the blocks of a sync request, whose dependencies and endpoint run in different threads."""


REQUEST: ContextVar[Request | None] = ContextVar("fastkit_request", default=None)
"""Set for each sync request; FastAPI's threads get a copy of the context that it is set in."""


class Ledger:
    """
    Who has a block open on a database, how much of it fan-outs may take, and what became of a commit; not for apps.

    Attributes:
        slots: The connections that fan-outs may take.
        age: How often the pool was replaced; a session that is older than it has lost its connection.
        forks: How many forks lie between this process and the one that made the database.
        shares_snapshots: Whether a fan-out can show all its transactions what one of them sees.
    """

    def __init__(self, engine: Engine, backend: Backend, timeouts: Timeouts, capacity: int | None) -> None:
        self.age = 0
        self.forks = 0
        self.slots = Slots(capacity)
        self.shares_snapshots = backend.shares_snapshots
        self._engine = engine
        self._backend = backend
        self._timeouts = timeouts
        self._holders: dict[int, ref[object]] = {}
        self._of_parent: list[Pool] = []
        in_every_child(self)

    def start_afresh(self) -> None:
        """Forget the connections of the parent process, without closing them, because it still uses them."""
        self._of_parent.append(self._engine.pool)  # kept, because drivers have destructors that close
        self._engine.dispose(close=False)
        self.age += 1
        self.forks += 1
        self._holders.clear()
        self.slots = Slots(self.slots.capacity)

    def opened(self, unit: object, owner: object) -> None:
        """Note which task or thread may hold a connection, so that it is not let wait for others."""
        self._holders[id(unit)] = ref(owner)

    def closed(self, unit: object) -> None:
        """Note that it holds none any more."""
        self._holders.pop(id(unit), None)

    def is_held_here(self) -> bool:
        """Return whether the task or thread that runs now has a block open."""
        me = asyncio.current_task() if self._engine.dialect.is_async else threading.current_thread()
        here = {id(each) for each in (me, REQUEST.get()) if each is not None}
        return any(id(holder()) in here for holder in list(self._holders.values()))

    def cut(self, connection: Connection) -> None:
        """Cut a connection whose server does not answer, from outside, so that whoever waits for it gets an error."""
        with suppress(Exception):
            if not (connection.closed or connection.invalidated):
                self._backend.cut(connection.connection.driver_connection)

    def lock(self, connection: Connection, name: str, seconds: float) -> bool:
        """Take a lock on a name until the open transaction ends; return whether the database gave it."""
        return self._backend.lock(connection, name, seconds)

    def number_of(self, connection: Connection) -> str | None:
        """Return by what name the database can later be asked about a transaction; None if it cannot, or need not."""
        return self._backend.number_of(connection)

    def ask_whether_committed(self, number: str) -> bool | None:
        """
        Ask the database, on a new connection, what became of a transaction; None if it does not say in time.

        In async code it runs inside a greenlet of SQLAlchemy, such as `AsyncSession.run_sync` makes.
        """
        deadline, pause = time.monotonic() + self._timeouts.connect, 0.02
        while time.monotonic() < deadline:
            with suppress(Exception), self._engine.connect() as connection:
                answer = self._backend.was_committed(connection, number)
                if answer is not None:
                    return answer
            await_only(asyncio.sleep(pause)) if self._engine.dialect.is_async else time.sleep(pause)
            pause = min(2 * pause, 0.5)
        return None
