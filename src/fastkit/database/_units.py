"""What a database asks of the units of work that it runs; the classes themselves live two floors higher."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from typing_extensions import Unpack

from fastkit.database._modes import Asked
from fastkit.database.retry import Retry
from fastkit.errors import DeclarationError

T = TypeVar("T")


def refuse_other_class(unit: object, call: str) -> None:
    """
    Refuse what is no class of units of work.

    Raises:
        DeclarationError: The first argument of *call* is something else.
    """
    if not isinstance(unit, type) or not hasattr(unit, "serving"):
        raise DeclarationError(f"{call} takes the class of a unit of work first, not {unit!r}.")


class Unit(Protocol):
    """A sync unit of work."""

    @property
    def session(self) -> Session:
        """Return the session that its repositories share."""
        ...

    @classmethod
    def serving(cls, database: Any) -> AbstractContextManager[Self]:
        """Make a unit that may open many blocks."""
        ...

    def block(self, **options: Unpack[Asked]) -> AbstractContextManager[Self]:
        """Return a block."""
        ...

    def _repeat(self, work: Callable[[], T], retry: Retry, options: Asked) -> T: ...


class AsyncUnit(Protocol):
    """An async unit of work."""

    @property
    def session(self) -> AsyncSession:
        """Return the session that its repositories share."""
        ...

    @classmethod
    def serving(cls, database: Any) -> AbstractAsyncContextManager[Self]:
        """Make a unit that may open many blocks."""
        ...

    def block(self, **options: Unpack[Asked]) -> AbstractAsyncContextManager[Self]:
        """Return a block."""
        ...

    async def _repeat(self, work: Callable[[], Awaitable[T]], retry: Retry, options: Asked) -> T: ...
