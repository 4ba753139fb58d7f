"""Where the parts of a stream come from: a unit that is opened when the body begins, and closed whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled
from sqlalchemy import ColumnElement

from fastkit.database import REQUEST
from fastkit.database import Request as RequestOwner
from fastkit.errors import DeclarationError
from fastkit.repository import AsyncReader, ListQuery, Reader
from fastkit.repository._projection import Projection
from fastkit.repository._verbs import check_batch
from fastkit.uow import AsyncBlock, AsyncUnitOfWork, Block, BlockOptions

T = TypeVar("T")

_ONE_MOMENT = BlockOptions(isolation="REPEATABLE READ", read_only=True, bound=False)
"""Bound to no thread, because each part of a sync stream may be read by another one."""


@dataclass(frozen=True, slots=True)
class Form:
    """
    How rows become bytes.

    Attributes:
        part: Reads the next rows as bytes; returns them, and where the rows after them begin.
        head: What comes before the first row.
        between: What stands between two parts.
        tail: What comes after the last row.
    """

    part: Callable[..., tuple[bytes, Sequence[Any] | None]]
    head: bytes = b""
    between: bytes = b""
    tail: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """
    The body of a stream; read once.

    Attributes:
        new_unit: What makes the unit, by `serving()`.
        rows: Makes a reader of the unit.
        form: Makes bytes of what the reader reads.
        where: Criteria.
        query: Filters and order that a client asked for.
        batch: Rows in one statement.
        snapshot: Whether all parts are of one moment.
    """

    new_unit: Any
    rows: Callable[[Any], Any]
    form: Callable[[Projection[Any]], Form]
    where: Sequence[ColumnElement[bool]]
    query: ListQuery[Any] | None
    batch: int
    snapshot: bool

    def __post_init__(self) -> None:
        check_batch(self.batch)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield the body, a chunk for each part; the first one as soon as it is known that there will be a body."""
        tail = b""
        async with AsyncExitStack() as stack:
            unit = await _entered(stack, self.new_unit.serving())
            if self.snapshot:
                block: Any = AsyncBlock if isinstance(unit, AsyncUnitOfWork) else Block
                await _entered(stack, block(unit, _ONE_MOMENT))
            reader = self._reader_of(unit)
            form = self.form(reader._projection)  # noqa: SLF001 - reads what its reader would
            tail, before, is_first = form.tail, form.head, True
            after, limiter = None, None
            while True:
                part, after = await self._next(reader, form, after, limiter)
                if part or is_first:
                    yield before + part
                before, is_first = form.between, False
                if after is None:
                    break
                # Who holds a connection must not wait for a thread behind those that wait for a connection.
                limiter = limiter or (anyio.CapacityLimiter(1) if self.snapshot else None)
        if tail:
            yield tail

    def _reader_of(self, unit: Any) -> Any:
        reader = self.rows(unit)
        if not isinstance(reader, Reader | AsyncReader):
            raise DeclarationError(
                "A stream reads response models: lambda shop: shop.books.into(BookOut), "
                f"and that does not return {type(reader).__name__}."
            )
        return reader

    async def _next(self, reader: Any, form: Form, after: Any, limiter: Any) -> tuple[bytes, Any]:
        arguments = (self.batch, after, self.query, *self.where)
        if isinstance(reader, AsyncReader):
            return await reader.session.run_sync(form.part, *arguments)
        await checkpoint_if_cancelled()
        return await _in_thread(form.part, reader.session, *arguments, limiter=limiter)


async def _entered(stack: AsyncExitStack, context: Any) -> Any:
    """Enter a context of either colour; a sync one is left in a thread. To enter one sends nothing."""
    if hasattr(context, "__aenter__"):
        return await stack.enter_async_context(context)
    REQUEST.set(REQUEST.get() or RequestOwner())
    entered = context.__enter__()

    async def leave(*error: Any) -> Any:
        return await _in_thread(context.__exit__, *error, limiter=anyio.CapacityLimiter(1))

    stack.push_async_exit(leave)
    return entered


async def _in_thread(work: Callable[..., T], *arguments: Any, limiter: anyio.CapacityLimiter | None) -> T:
    """
    Return what a function returns that runs in a thread; a cancellation is delivered after its end.

    A thread cannot be cancelled, and two of them must not meet in one session.
    """
    task = asyncio.ensure_future(to_thread.run_sync(partial(work, *arguments), limiter=limiter))
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        cancelled.__context__ = task.exception()
        raise cancelled
    return task.result()
