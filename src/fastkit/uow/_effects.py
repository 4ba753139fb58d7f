"""What a unit of work does, in both colours side by side: how it ends blocks, calls handlers, repeats work."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from types import FrameType
from typing import Any, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import Unpack

from fastkit._calls import awaited, refuse_awaitable
from fastkit.database import Asked, GuardedSession, Retry
from fastkit.database.retry import Attempts
from fastkit.errors import StatementTimeoutError
from fastkit.uow._life import UnitLife
from fastkit.uow._shield import DeadlinePassedError, shielded
from fastkit.uow._state import Phase

log = logging.getLogger("fastkit.uow")

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that a block waits at its end for a statement that another task runs in it, before it is cut off."""


class Effects(UnitLife):
    """What a sync unit of work does."""

    _is_async = False

    def begin(self, **options: Unpack[Asked]) -> AbstractContextManager[Any]:
        """Return a block that commits on a clean exit; takes the options of `block`."""
        raise NotImplementedError

    def _take_session(self) -> None:
        self._guarded = GuardedSession(
            engines=self._database, metadata=self._metadata, handlers=self._handlers, scoping=self._scoping
        )

    def _me(self) -> object:
        return threading.current_thread()

    def _repeat(self, work: Callable[[], T], retry: Retry, options: Asked) -> T:
        """Run *work* in a block that commits, again and again while it loses against other transactions."""
        with self._repeating():
            attempts = Attempts(retry, lock_timeouts=self._database.dialect_name == "sqlite")
            while True:
                try:
                    with self.begin(**options):
                        return refuse_awaitable(work(), "What is to be run")
                except BaseException as error:
                    if self._is_decided or (pause := attempts.next_pause(error)) is None:
                        raise
                self._start_over()
                time.sleep(pause)

    def _exit(self, error: BaseException | None, frame: FrameType, *, commits: bool) -> None:
        if not self._leaves(frame):
            return
        if commits and error is None and self._handlers is not None:
            try:
                self._call_handlers()
            except BaseException as failure:
                self._leave(failure, commits=False)
                raise
        try:
            self._leave(error, commits=commits)
        finally:
            if self._hooks:
                self._run_hooks()

    def _call_handlers(self) -> None:
        if self._is_outermost:
            with self._handling():
                for call in self._calls_before_commit():
                    refuse_awaitable(call(), "A handler")

    @property
    def _flush_call(self) -> Callable[[], object]:
        return self._guarded.flush

    def _run_hooks(self) -> None:
        if self._phase is not Phase.OPEN and (run := self._hooks_to_run()):
            outcome = self._outcome
            try:
                run.run()
            finally:
                self._collect(run, outcome)


class AsyncEffects(UnitLife):
    """Same as `Effects`, but awaited; what ends a block is shielded from cancellation."""

    _is_async = True
    _actor: object = None
    _acting_for: object = None

    def begin(self, **options: Unpack[Asked]) -> AbstractAsyncContextManager[Any]:
        """Same as `Effects.begin`, but entered with `async with`."""
        raise NotImplementedError

    def _take_session(self) -> None:
        self._async_session = AsyncSession(
            sync_session_class=GuardedSession,
            engines=self._database,
            metadata=self._metadata,
            handlers=self._handlers,
            scoping=self._scoping,
        )
        self._guarded = cast("GuardedSession", self._async_session.sync_session)

    def _me(self) -> object:
        task = asyncio.current_task()
        return self._acting_for if task is self._actor else task

    async def _repeat(self, work: Callable[[], Awaitable[T]], retry: Retry, options: Asked) -> T:
        with self._repeating():
            attempts = Attempts(retry, lock_timeouts=self._database.dialect_name == "sqlite")
            while True:
                try:
                    async with self.begin(**options):
                        return await awaited(work(), "What is to be run")
                except BaseException as error:
                    if self._is_decided or (pause := attempts.next_pause(error)) is None:
                        raise
                self._start_over()
                await asyncio.sleep(pause)

    async def _exit(self, error: BaseException | None, frame: FrameType, *, commits: bool) -> None:
        if not self._leaves(frame):
            return
        if commits and error is None and self._handlers is not None:
            try:
                await self._call_handlers()
            except BaseException as failure:
                await self._shielded(partial(self._leave, failure, commits=False))
                self._part_if_abandoned()
                raise
        try:
            leave = partial(self._leave, error, commits=commits)
            await self._shielded(leave, committing=commits and error is None)
        except asyncio.CancelledError:
            self._skip_hooks()
            raise
        except BaseException:
            await self._run_hooks()  # of a listener of the app, after the commit: same as in a sync unit
            raise
        finally:
            self._part_if_abandoned()
        if self._hooks:
            await self._run_hooks()

    async def _call_handlers(self) -> None:
        if self._is_outermost:
            with self._handling():
                for call in self._calls_before_commit():
                    if inspect.isawaitable(answer := call()):
                        await answer

    @property
    def _flush_call(self) -> Callable[[], object]:
        return self._async_session.flush

    async def _run_hooks(self) -> None:
        if self._phase is not Phase.OPEN and (run := self._hooks_to_run()):
            outcome = self._outcome
            try:
                await run.run_async()
            finally:
                self._collect(run, outcome)

    async def _open_savepoint(self, frame: FrameType) -> None:
        await self._async_session.run_sync(lambda _: self._enter_savepoint(frame))

    async def _close_savepoint(self, error: BaseException | None, frame: FrameType) -> None:
        transaction = self._guarded.open_transaction
        try:
            await self._uncut(partial(self._leave_savepoint, self._take_savepoint(frame), error))
        except DeadlinePassedError as deadline:
            late = StatementTimeoutError("The database did not answer before the commit deadline.")
            if transaction is not None:
                transaction.doom(error or late, whole=True)
            if deadline.cancelled is not None:
                raise deadline.cancelled from None
            if error is None:
                raise late from deadline
        except asyncio.CancelledError as cancelled:
            if error is None and transaction is not None:
                transaction.doom(cancelled)  # it was kept, but the caller was told of an error: nothing may say it is
            raise

    async def _shielded(self, work: Callable[[], None], *, committing: bool = False) -> bool:
        """Run the end of a block, return whether it waited; without an answer in time, tell its outcome anyway."""
        transaction = self._guarded.open_transaction
        try:
            return await self._uncut(work)
        except DeadlinePassedError as passed:
            self._abandon(sent=transaction is not None and transaction.committing)
            if committing:
                committed = await self._ask(transaction.number if transaction else None)
                self._tell_abandoned_commit(committed, passed.cancelled)
            if passed.cancelled is not None:
                raise passed.cancelled from None
            return True

    async def _uncut(self, work: Callable[[], None]) -> bool:
        """Run *work* so that no cancellation cuts it in two, and no dead server holds it; return whether it waited."""
        session, guarded = self._async_session, self._guarded
        if not (guarded.in_transaction() or guarded.is_busy or guarded.dispatch.before_commit) and guarded.is_clean:
            work()
            return False

        caller, connections = self._me(), guarded.connections

        async def settle_and_work() -> None:
            self._actor, self._acting_for = asyncio.current_task(), caller  # for listeners that call the unit
            patience = time.monotonic() + PATIENCE
            # whoever is at work has no event to set
            while guarded.is_settling or (guarded.is_busy and time.monotonic() < patience):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await session.run_sync(lambda _: work())

        def abort() -> None:
            log.error("The database did not answer in %s s; its connection is cut.", self._database.timeouts.commit)
            for connection in {*connections, *guarded.connections}:
                self._database.ledger.cut(connection)

        await shielded(settle_and_work(), deadline=self._database.timeouts.commit, abort=abort)
        return True

    async def _ask(self, number: str | None) -> bool | None:
        """Ask the database whether a transaction was committed; return None if it does not say."""
        if number is None:
            return None
        asking = self._async_session.run_sync(lambda _: self._database.ledger.ask_whether_committed(number))
        try:
            return await shielded(asking, deadline=2 * self._database.timeouts.connect, abort=lambda: None)
        except DeadlinePassedError:
            return None
