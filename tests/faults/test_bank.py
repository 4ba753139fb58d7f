"""C1 to C19 together: random transfers, in random forms, with random faults, against a model in plain Python."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from bank import Account, AsyncBank, Bank, Base, Told, Transfer, move
from colours import awaitable
from conftest import TIMEOUTS
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from servers import Driver
from sqlalchemy import create_engine, make_url, text

from fastkit.database import AsyncDatabase, Database
from fastkit.errors import ConstraintError, FastkitError, NotFoundError, TransactionDoomedError, UncommittedChangesError
from fastkit.uow import Status

SLOW = bool(os.environ.get("FASTKIT_SLOW"))
SETTINGS = settings(
    max_examples=100 if SLOW else 12,
    stateful_step_count=40 if SLOW else 15,
    deadline=None,
    derandomize=not SLOW,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    report_multiple_bugs=False,
)
KILL = {
    "PostgreSQL": "SELECT pg_terminate_backend({})",
    "MariaDB": "KILL {}",
}
ID = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT connection_id()"}

keys = st.integers(0, 4)
amounts = st.integers(1, 80)
Work = Callable[[Any], Awaitable[None]]


class Till:
    """One database with the tables of the bank, and a loop to run on."""

    def __init__(self, driver: Driver, url: str) -> None:
        self.driver = driver
        self.runner = asyncio.Runner()
        kind = AsyncDatabase if driver.is_async else Database
        self.unit: Any = AsyncBank if driver.is_async else Bank
        self.database: Any = kind(url, pool_size=2, timeouts=TIMEOUTS)
        names = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
        parsed = make_url(url)
        self.outside = create_engine(
            parsed.set(drivername=names[parsed.get_backend_name()]), isolation_level="AUTOCOMMIT"
        )
        Base.metadata.create_all(self.outside)

    def close(self) -> None:
        """Drop the tables."""
        self.runner.run(self._close())
        self.runner.close()
        Base.metadata.drop_all(self.outside)
        self.outside.dispose()

    async def _close(self) -> None:
        await awaitable(self.database).close()

    def bank(self) -> Any:
        """Return a unit of work made by hand, dressed as an async one."""
        return awaitable(self.unit(self.database))

    def stored(self, sql: str) -> list[Any]:
        """Return the rows as they are seen from outside."""
        with self.outside.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def reset(self) -> None:
        """Empty the tables."""
        with self.outside.connect() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())


@pytest.fixture
def till(driver: Driver, url: str) -> Iterator[Till]:
    """Return a bank on each database."""
    till = Till(driver, url)
    yield till
    till.close()


class BankMachine(RuleBasedStateMachine):
    """Transfers, and what must be true after each."""

    till: Till

    @initialize()
    def open_accounts(self) -> None:
        """Begin with four accounts."""
        self.till.reset()
        Told.numbers.clear()
        Told.fails = False
        self.balances = dict.fromkeys(range(4), 100)  # account 4 does not exist
        self.journal: list[int] = []
        self.told: list[int] = []
        self.number = 0
        self._do(self._open)

    async def _open(self) -> None:
        async with self.till.bank().begin() as bank:
            for key, balance in self.balances.items():
                bank.accounts.add(Account(id=key, balance=balance))

    def _do(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            return await work()

        return self.till.runner.run(run())

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _is_possible(self, payer: int, payee: int, amount: int) -> bool:
        known = payer in self.balances and payee in self.balances
        return known and (payer == payee or self.balances[payer] >= amount)

    def _book(self, number: int, payer: int, payee: int, amount: int) -> None:
        self.balances[payer] -= amount
        self.balances[payee] += amount
        self.journal.append(number)
        self.told.append(number)

    @rule(payer=keys, payee=keys, amount=amounts, form=st.sampled_from(["commit", "begin", "nested", "run"]))
    def transfer(self, payer: int, payee: int, amount: int, form: str) -> None:
        """A transfer is stored if it is possible, whole, and only then."""
        number = self._next()

        async def work() -> Status:
            if form == "run":
                return await self._run(number, payer, payee, amount)
            bank = self.till.bank()
            try:
                if form == "begin":
                    async with bank.begin():
                        await move(bank, number, payer, payee, amount)
                else:
                    async with bank:
                        if form == "nested":
                            async with bank.begin():
                                await move(bank, number, payer, payee, amount)
                        else:
                            await move(bank, number, payer, payee, amount)
                        await bank.commit()
            except (ConstraintError, NotFoundError):
                pass
            return bank.outcome.status

        status = self._do(work)
        assert status is (Status.COMMITTED if self._is_possible(payer, payee, amount) else Status.ROLLED_BACK)
        if status is Status.COMMITTED:
            self._book(number, payer, payee, amount)

    async def _run(self, number: int, payer: int, payee: int, amount: int) -> Status:
        async def work(bank: Any) -> None:
            await move(bank, number, payer, payee, amount)

        def sync_work(bank: Any) -> None:
            coroutine = work(awaitable(bank))
            with pytest.raises(StopIteration):
                coroutine.send(None)

        try:
            if self.till.driver.is_async:
                await self.till.database.run(AsyncBank, work, isolation="SERIALIZABLE")
            else:
                self.till.database.run(Bank, sync_work, isolation="SERIALIZABLE")
        except (ConstraintError, NotFoundError):
            return Status.ROLLED_BACK
        return Status.COMMITTED

    @rule(good=st.tuples(keys, keys, amounts), bad=st.tuples(keys, keys, amounts), swallow=st.booleans())
    def transfer_with_a_savepoint(self, good: Any, bad: Any, *, swallow: bool) -> None:
        """A part that fails in a savepoint takes only itself; swallowed inside, the whole block is told of it."""
        first, second = self._next(), self._next()
        expects = self._is_possible(*good)

        async def work() -> Status:
            bank = self.till.bank()
            try:
                async with bank:
                    await move(bank, first, *good)
                    try:
                        async with bank.savepoint():
                            bank.after_commit(lambda: Told.numbers.append(-1))
                            try:
                                await move(bank, second, *bad)
                                bank.transfers.add(Transfer(number=first, amount=0))  # a duplicate
                                await bank.session.flush()
                            except FastkitError:
                                if not swallow:
                                    raise
                    except (ConstraintError, NotFoundError, TransactionDoomedError):
                        pass
                    await bank.commit()
            except (ConstraintError, NotFoundError, TransactionDoomedError):
                pass  # the first transfer is impossible, which may have been noticed at the savepoint
            return bank.outcome.status

        status = self._do(work)
        assert status is (Status.COMMITTED if expects else Status.ROLLED_BACK)
        # A missing account is no error of the database: swallowed, it dooms nothing, and no money has moved yet.
        is_kept = swallow and not {bad[0], bad[1]} <= self.balances.keys()
        if expects:
            self.told += [-1] if is_kept else []
            self._book(first, *good)

    @rule(how=st.sampled_from(["forget", "rollback", "raise", "swallow", "handler"]), payer=keys, payee=keys)
    def transfer_that_comes_to_nothing(self, how: str, payer: int, payee: int) -> None:
        """Whatever ends a block without its commit stores nothing and tells nobody."""
        if not self._is_possible(payer, payee, 1):
            return
        number = self._next()
        Told.fails = how == "handler"

        async def work() -> Status:
            bank = self.till.bank()
            with pytest.raises((UncommittedChangesError, LookupError, TransactionDoomedError, ZeroDivisionError)):
                async with bank:
                    await move(bank, number, payer, payee, 1)
                    if how == "rollback":
                        await bank.rollback()
                        raise ZeroDivisionError
                    if how == "raise":
                        raise ZeroDivisionError
                    if how == "swallow":
                        try:
                            async with bank:
                                raise ZeroDivisionError
                        except ZeroDivisionError:
                            pass
                    if how != "forget":
                        await bank.commit()
            return bank.outcome.status

        status = self._do(work)
        Told.fails = False
        assert status is Status.ROLLED_BACK

    @rule(payer=keys, payee=keys, fails=st.booleans())
    def transfer_with_hooks(self, payer: int, payee: int, *, fails: bool) -> None:
        """What goes wrong after the commit, in the block or in a hook, does not undo it."""
        if not self._is_possible(payer, payee, 1):
            return
        number = self._next()

        async def work() -> Any:
            bank = self.till.bank()
            with pytest.raises(ZeroDivisionError):
                async with bank:
                    await move(bank, number, payer, payee, 1)
                    bank.after_commit(lambda: 1 // (not fails))
                    await bank.commit()
                    raise ZeroDivisionError
            return bank.outcome

        outcome = self._do(work)
        assert outcome.status is Status.COMMITTED
        assert len(outcome.hook_errors) == fails
        self._book(number, payer, payee, 1)

    @rule(payer=keys, payee=keys)
    def transfer_whose_connection_is_killed(self, payer: int, payee: int) -> None:
        """The server ends the connection before the commit: nothing is stored, and the next one works."""
        server = self.till.driver.server
        if server == "SQLite" or not self._is_possible(payer, payee, 1):
            return
        number = self._next()

        async def work() -> Status:
            bank = self.till.bank()
            with pytest.raises(FastkitError):
                async with bank:
                    await move(bank, number, payer, payee, 1)
                    await bank.session.flush()
                    me = await bank.session.scalar(text(ID[server]).execution_options(fastkit_reads=True))
                    self.till.stored(KILL[server].format(me)) if server == "PostgreSQL" else self._kill(me)
                    await bank.commit()
            return bank.outcome.status

        assert self._do(work) is Status.ROLLED_BACK

    def _kill(self, me: int) -> None:
        with self.till.outside.connect() as connection:
            connection.exec_driver_sql(KILL["MariaDB"].format(me))

    @invariant()
    def the_books_are_right(self) -> None:
        """What is stored is what the model says, and nothing is left over."""
        if not hasattr(self, "journal"):
            return
        assert dict(self.till.stored("SELECT id, balance FROM bank_account")) == self.balances
        numbers = [number for (number,) in self.till.stored("SELECT number FROM bank_transfer ORDER BY number")]
        audited = [number for (number,) in self.till.stored("SELECT number FROM bank_audit ORDER BY number")]
        assert numbers == audited == sorted(self.journal)
        assert Told.numbers == self.told
        assert self.till.database.checked_out == 0


@pytest.mark.timeout(600)
def test_c19_the_books_of_the_bank_are_right(till: Till) -> None:
    """Random transfers leave what the model says, on every database."""
    machine = type("BankMachineHere", (BankMachine,), {"till": till})

    run_state_machine_as_test(machine, settings=SETTINGS)
