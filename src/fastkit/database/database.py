"""The database of an app: an engine with sane limits, the sessions on it, and its life from start to shutdown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, ClassVar, Self

import anyio.to_thread
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from fastkit.database._replicas import Replicas, listed
from fastkit.database._running import RunsAsyncUnits, RunsUnits
from fastkit.database._signing import SIGNER
from fastkit.database._translate import translate
from fastkit.database._urls import backend_of, create, prepare
from fastkit.database.timeouts import Timeouts
from fastkit.errors import CannotConnectError


class Database(RunsUnits):
    """
    A database for `def` code; made once, when the app is imported, and lives as long as the app.

    It connects lazily, so making one is cheap and needs no server.

    >>> database = Database("sqlite:///shop.db")
    >>> app = FastAPI(lifespan=database.lifespan)

    Args:
        url: A database URL, or an engine that the app already has.
        pool_size: Connections kept open; half as many again may be opened under load.
        timeouts: Time limits.
        engine_options: Further keyword arguments for SQLAlchemy's `create_engine`.
        replicas: Databases that follow this one and may serve blocks that only read, `block(read_only=True)`, in turn;
            one that cannot be reached is left alone for ten seconds. URLs get the options of this database.
        cursor_keys: Secrets of at least 32 characters that the cursors of `window` are signed with. The first one
            signs, all are accepted: to rotate, put the new one first.
        pgbouncer: Whether the URL leads to PgBouncer in transaction mode: nothing is prepared, and each setting ends
            with its transaction.

    Raises:
        DeclarationError: The URL is wrong, its driver is not installed, or it cannot serve concurrent requests; a
            cursor key is too short; it is not PostgreSQL behind PgBouncer.
    """

    is_async: ClassVar[bool] = False

    def __init__(
        self,
        url: str | URL | Engine,
        *,
        pool_size: int = 10,
        timeouts: Timeouts | None = None,
        engine_options: Mapping[str, Any] | None = None,
        replicas: Sequence[str | URL | Self] = (),
        cursor_keys: Sequence[str | bytes] = (),
        pgbouncer: bool = False,
    ) -> None:
        super().__init__(timeouts or Timeouts(), cursor_keys, owns_engine=not isinstance(url, Engine))
        if isinstance(url, Engine):
            self.engine = url
        else:
            parsed, options = prepare(
                url, self.timeouts, pool_size, engine_options or {}, is_async=False, pgbouncer=pgbouncer
            )
            self.engine = create(create_engine, parsed, options)
        self._adopt(self.engine, backend_of(self.engine.url, pgbouncer=pgbouncer))
        same: Any = {
            "pool_size": pool_size,
            "timeouts": timeouts,
            "engine_options": engine_options,
            "pgbouncer": pgbouncer,
        }
        found = [each if isinstance(each, Database) else Database(each, **same) for each in listed(replicas)]
        self._replicas = Replicas(found, self.dialect_name)

    @property
    def replicas(self) -> tuple[Database, ...]:
        """Return the replicas; each is a database that can be asked by itself, `database.replicas[0].gather(...)`."""
        return self._replicas.databases

    def session(self) -> Session:
        """Return a plain SQLAlchemy session that nothing watches over, for code that wants no unit of work."""
        return Session(self.engine, expire_on_commit=False, info={SIGNER: self.signer})

    def create_all(self, metadata: MetaData) -> None:
        """Create the tables that are missing: for demos and tests; real apps use migrations."""
        metadata.create_all(self.engine)

    def open(self) -> None:
        """
        Connect once, so that a wrong setting is told at start.

        Raises:
            CannotConnectError: The server cannot be reached or refuses the credentials.
        """
        self._closed = False
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except Exception as error:
            raise _translated(error) from error
        for replica in self.replicas:
            try:
                replica.open()
            except CannotConnectError as error:
                self._replicas.missing(replica, error)

    def close(self) -> None:
        """Take no more work, wait for connections that are in use, then close all of them."""
        self._closed = True
        deadline = time.monotonic() + self.timeouts.drain
        while self.checked_out and time.monotonic() < deadline:
            time.sleep(0.01)
        self._warn_of_connections_in_use()
        for replica in self.replicas:
            replica.close()
        self.ledger.age += 1
        if self._owns_engine:
            self.engine.dispose()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None]:
        """Open the database when the app starts and close it when the app has stopped: `FastAPI(lifespan=...)`."""
        await anyio.to_thread.run_sync(self.open)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.close)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncDatabase(RunsAsyncUnits):
    """
    A database for `async def` code; same as `Database`, but awaited.

    >>> database = AsyncDatabase("postgresql+asyncpg://shop@localhost/shop")
    >>> app = FastAPI(lifespan=database.lifespan)
    """

    is_async: ClassVar[bool] = True

    def __init__(
        self,
        url: str | URL | AsyncEngine,
        *,
        pool_size: int = 10,
        timeouts: Timeouts | None = None,
        engine_options: Mapping[str, Any] | None = None,
        replicas: Sequence[str | URL | Self] = (),
        cursor_keys: Sequence[str | bytes] = (),
        pgbouncer: bool = False,
    ) -> None:
        super().__init__(timeouts or Timeouts(), cursor_keys, owns_engine=not isinstance(url, AsyncEngine))
        if isinstance(url, AsyncEngine):
            self.engine = url
        else:
            parsed, options = prepare(
                url, self.timeouts, pool_size, engine_options or {}, is_async=True, pgbouncer=pgbouncer
            )
            self.engine = create(create_async_engine, parsed, options)
        self._adopt(self.engine.sync_engine, backend_of(self.engine.url, pgbouncer=pgbouncer))
        same: Any = {
            "pool_size": pool_size,
            "timeouts": timeouts,
            "engine_options": engine_options,
            "pgbouncer": pgbouncer,
        }
        found = [each if isinstance(each, AsyncDatabase) else AsyncDatabase(each, **same) for each in listed(replicas)]
        self._replicas = Replicas(found, self.dialect_name)

    @property
    def replicas(self) -> tuple[AsyncDatabase, ...]:
        """Same as `Database.replicas`."""
        return self._replicas.databases

    def session(self) -> AsyncSession:
        """Same as `Database.session`."""
        return AsyncSession(self.engine, expire_on_commit=False, info={SIGNER: self.signer})

    async def create_all(self, metadata: MetaData) -> None:
        """Same as `Database.create_all`."""
        async with self.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def open(self) -> None:
        """Same as `Database.open`."""
        self._closed = False
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception as error:
            raise _translated(error) from error
        for replica in self.replicas:
            try:
                await replica.open()
            except CannotConnectError as error:
                self._replicas.missing(replica, error)

    async def close(self) -> None:
        """Same as `Database.close`."""
        self._closed = True
        deadline = time.monotonic() + self.timeouts.drain
        while self.checked_out and time.monotonic() < deadline:  # noqa: ASYNC110 - a pool has no event to wait for
            await asyncio.sleep(0.01)
        self._warn_of_connections_in_use()
        for replica in self.replicas:
            await replica.close()
        self.ledger.age += 1
        if self._owns_engine:
            await self.engine.dispose()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None]:
        """Same as `Database.lifespan`."""
        await self.open()
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _translated(error: Exception) -> Exception:
    return translate(error) or error
