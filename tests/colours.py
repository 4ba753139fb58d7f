"""Run one test body on both colours: a sync object, dressed so that it can be awaited as its async twin is."""

from __future__ import annotations

import inspect
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from fastkit.database import AsyncDatabase, Database, GuardedSession
from fastkit.repository import (
    AsyncBulk,
    AsyncJsonReader,
    AsyncReader,
    AsyncReads,
    AsyncRepository,
    Bulk,
    JsonReader,
    Reader,
    Reads,
    Repository,
)
from fastkit.uow import AsyncBlock, AsyncSavepoint, AsyncUnitOfWork, Block, Savepoint, UnitOfWork

TWINS: dict[type[Any], type[Any]] = {
    Bulk: AsyncBulk,
    Repository: AsyncRepository,
    Reads: AsyncReads,
    Reader: AsyncReader,
    JsonReader: AsyncJsonReader,
    UnitOfWork: AsyncUnitOfWork,
    Block: AsyncBlock,
    Savepoint: AsyncSavepoint,
    Database: AsyncDatabase,
    GuardedSession: AsyncSession,
}


def twin_of(kind: type[Any]) -> type[Any] | None:
    """Return the async class of the same shape, or None if there is only one."""
    return next((twin for base, twin in TWINS.items() if issubclass(kind, base)), None)


def awaitable(thing: Any) -> Any:
    """Return a sync object dressed as its async twin; anything else as it is."""
    return Dressed(thing) if twin_of(type(thing)) else thing


class Dressed:
    """A sync object whose methods are awaited exactly where those of its async twin are."""

    def __init__(self, naked: Any) -> None:
        object.__setattr__(self, "naked", naked)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.naked, name)
        if not callable(value):
            return awaitable(value)
        twin = twin_of(type(self.naked))
        if inspect.iscoroutinefunction(getattr(twin, name, None)):

            async def awaited(*args: Any, **options: Any) -> Any:
                return awaitable(value(*args, **options))

            return awaited
        return lambda *args, **options: awaitable(value(*args, **options))

    async def __aenter__(self) -> Any:
        return awaitable(self.naked.__enter__())

    async def __aexit__(self, *error: object) -> Any:
        return self.naked.__exit__(*error)

    def __repr__(self) -> str:
        return repr(self.naked)
