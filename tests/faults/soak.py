"""
Ten thousand transfers by 32 workers, a random fault about every 20th: `python tests/faults/soak.py`, or `make soak`.

At the end money is conserved, every transfer that was told COMMITTED is stored exactly once, every one that was told
ROLLED_BACK is absent, nothing is checked out, and memory is flat. It makes a database of its own and drops it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import gc
import logging
import os
import random
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "examples")]

from aftermath import Lookout, check_pool  # noqa: E402 - found through the line above
from bank import Account, AsyncBank, Base, Told, Transferred, move  # noqa: E402 - same
from proxy import CUT, Proxy  # noqa: E402 - same
from servers import MARIADB, POSTGRES  # noqa: E402 - same
from sqlalchemy import create_engine, make_url, text  # noqa: E402 - same

from fastkit.database import AsyncDatabase, Retry, Timeouts  # noqa: E402 - same
from fastkit.errors import FastkitError  # noqa: E402 - same
from fastkit.uow import Status  # noqa: E402 - same

ACCOUNTS, MONEY = 50, 1_000_000
URLS = {
    "postgresql": f"postgresql+asyncpg://{POSTGRES}",
    "psycopg": f"postgresql+psycopg://{POSTGRES}",
    "mariadb": f"mariadb+asyncmy://{MARIADB}",
    "sqlite": "sqlite+aiosqlite:///",
}
TIMEOUTS = Timeouts(connect=5, pool=30, statement=10, lock=10, commit=10, drain=5)
TOLERANCE = 1.02
CODES = {None: 0, Status.COMMITTED: 1, Status.ROLLED_BACK: 2, Status.UNKNOWN: 3}
EXPECTED = (FastkitError, LookupError, ZeroDivisionError, TimeoutError)


class Confirming(AsyncBank, confirm_commit=True):
    """The bank, asking PostgreSQL what became of a lost COMMIT."""


class Counts:
    """How often each transfer was told after its commit; of a size that does not grow."""

    def __init__(self, transfers: int) -> None:
        self.of = bytearray(transfers)

    def append(self, number: int) -> None:
        """Count one more."""
        self.of[number] += 1


class Soak:
    """One run."""

    def __init__(
        self, database: AsyncDatabase, proxy: Proxy | None, lookout: Lookout, asked: argparse.Namespace
    ) -> None:
        self.database = database
        self.proxy = proxy
        self.lookout = lookout
        self.transfers = asked.transfers
        self.dice = random.Random(asked.seed)
        self.numbers = iter(range(self.transfers))
        self.outcomes = bytearray(self.transfers)
        self.faults: collections.Counter[str] = collections.Counter()
        self.peak = 0
        self.told = Counts(self.transfers)
        Told.numbers = self.told  # type: ignore[assignment]  # all that is done to it here
        self.memory: list[tuple[int, int]] = []

    async def run(self, workers: int) -> None:
        """Do all transfers."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        for number in self.numbers:
            fault = self.dice.choice(self._kinds()) if self.dice.random() < 1 / 20 else None
            if fault:
                self.faults[fault] += 1
            await self._transfer(number, fault)
            if number % max(1, self.transfers // 60) == 0:
                if self.proxy:
                    self.proxy.statements.clear()
                gc.collect()
                self.memory.append((number, tracemalloc.get_traced_memory()[0]))

    def _kinds(self) -> list[str]:
        kinds = ["domain", "handler", "hook", "cancel", "cancel twice", "timeout", "swallowed"]
        return [*kinds, "kill", "cut before COMMIT", "cut after COMMIT"] if self.proxy else kinds

    async def _transfer(self, number: int, fault: str | None) -> None:
        units: list[Any] = []
        task = asyncio.create_task(self._work(number, fault, units))
        if fault in {"cancel", "cancel twice"}:
            for _ in range(1 if fault == "cancel" else 2):
                await asyncio.sleep(self.dice.random() * 0.02)
                task.cancel()
        with contextlib.suppress(*EXPECTED, asyncio.CancelledError):
            await task
        status = units[-1].outcome.status if units else Status.ROLLED_BACK
        self.outcomes[number] = CODES[Status.ROLLED_BACK if status is Status.ACTIVE else status]
        self.peak = max(self.peak, self.database.checked_out)

    async def _work(self, number: int, fault: str | None, units: list[Any]) -> None:
        source, target = self.dice.sample(range(ACCOUNTS), 2)
        form = self.dice.choice(["commit", "begin", "nested", "savepoint", "run", "serializable"])
        confirms = self.database.dialect_name == "postgresql" and self.dice.random() < 0.5
        kind: Any = Confirming if confirms else AsyncBank
        limit = self.dice.random() * 0.02 if fault == "timeout" else None
        if fault and fault.startswith("cut") and self.proxy:
            self.proxy.arm(CUT, **{"before" if "before" in fault else "after": "COMMIT"})
        async with asyncio.timeout(limit):
            if form in {"run", "serializable"}:
                isolation: Any = "SERIALIZABLE" if form == "serializable" else None

                async def again(bank: Any) -> None:
                    units.append(bank)
                    await self._body(bank, number, source, target, fault)

                await self.database.run(kind, again, isolation=isolation, retry=Retry(50, deadline=60))
                return
            bank = kind(self.database)
            units.append(bank)
            await self._form(form, bank, number, source, target, fault)

    async def _form(self, form: str, bank: Any, number: int, source: int, target: int, fault: str | None) -> None:
        if form == "begin":
            async with bank.begin():
                await self._body(bank, number, source, target, fault)
            return
        async with bank:
            if form == "nested":
                async with bank.begin():
                    await self._body(bank, number, source, target, fault)
            elif form == "savepoint":
                with contextlib.suppress(ZeroDivisionError):
                    async with bank.savepoint():
                        await move(bank, number + 10_000_000, source, target, 1)
                        raise ZeroDivisionError
                await self._body(bank, number, source, target, fault)
            else:
                await self._body(bank, number, source, target, fault)
            await bank.commit()

    async def _body(self, bank: Any, number: int, source: int, target: int, fault: str | None) -> None:
        await move(bank, number, source, target, self.dice.randrange(1, 100))
        if fault == "hook":
            bank.after_commit(lambda: 1 // 0)
        if fault == "domain":
            raise ZeroDivisionError
        if fault == "handler":
            (await bank.transfers.get_one(number)).record(Transferred(-1))  # which the handler refuses
        if fault == "swallowed":
            with contextlib.suppress(ZeroDivisionError):
                async with bank:
                    raise ZeroDivisionError
        if fault == "kill":
            await bank.session.flush()
            await asyncio.to_thread(self._kill)

    def _kill(self) -> None:
        if self.lookout.kind == "postgresql":
            found = self.lookout.rows(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            command = "SELECT pg_terminate_backend({})"
        else:
            found = self.lookout.rows(
                "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
            )
            command = "KILL {}"
        if found:
            with contextlib.suppress(Exception), self.lookout._engine.connect() as connection:
                connection.exec_driver_sql(command.format(random.choice(found)[0]))

    def verdict(self) -> list[str]:
        """Return what is wrong at the end."""
        stored = {number for (number,) in self.lookout.rows("SELECT number FROM bank_transfer")}
        audited = {number for (number,) in self.lookout.rows("SELECT number FROM bank_audit")}
        money = self.lookout.rows("SELECT sum(balance) FROM bank_account")[0][0]
        committed = {number for number, code in enumerate(self.outcomes) if code == CODES[Status.COMMITTED]}
        rolled_back = {number for number, code in enumerate(self.outcomes) if code == CODES[Status.ROLLED_BACK]}
        checks = {
            "money is not conserved": int(money) != ACCOUNTS * MONEY,
            "a COMMITTED transfer is not stored": bool(committed - stored),
            "a ROLLED_BACK transfer is stored": bool(rolled_back & stored),
            "something is stored that nobody did": bool(stored - set(range(self.transfers))),
            "the audit differs from the journal": audited != stored,
            "a transfer has no outcome": 0 in self.outcomes,
            "somebody was told twice, or of what was not committed": any(
                count > 1 or (count and number not in committed) for number, count in enumerate(self.told.of)
            ),
            "a connection is checked out": self.database.checked_out != 0,
            f"memory grew by {self.growth:.3f}": self.growth > TOLERANCE,
        }
        return [what for what, is_wrong in checks.items() if is_wrong]

    @property
    def growth(self) -> float:
        """Return the memory of the last third in relation to that of the middle third."""
        third = self.transfers / 3
        middle = [size for number, size in self.memory if third <= number < 2 * third]
        last = [size for number, size in self.memory if number >= 2 * third]
        return (sum(last) / len(last)) / (sum(middle) / len(middle)) if middle and last else 1.0


async def soak(url: str, asked: argparse.Namespace, proxy: Proxy | None) -> int:
    """Run it, and print what came out."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # asyncpg tells of each cut line
    lookout = Lookout(url)
    database = AsyncDatabase(proxy.url(url) if proxy else url, pool_size=10, timeouts=TIMEOUTS)
    async with AsyncBank(database).begin() as bank:
        bank.accounts.add_all(Account(id=number, balance=MONEY) for number in range(ACCOUNTS))
    run = Soak(database, proxy, lookout, asked)
    tracemalloc.start()
    start = time.monotonic()
    await run.run(asked.workers)
    seconds = time.monotonic() - start
    if proxy:
        proxy.disarm()
    lookout.wait_until_nothing_is_open()
    await check_pool(database)
    faults = run.verdict()
    names = {code: status.name if status else "NONE" for status, code in CODES.items()}
    outcomes = {names[code]: count for code, count in sorted(collections.Counter(run.outcomes).items())}
    _say(f"{database.dialect_name}: {asked.transfers} transfers, {asked.workers} workers, seed {asked.seed}")
    _say(f"  {seconds:.0f} s, {asked.transfers / seconds:.0f} a second, at most {run.peak} connections")
    _say(f"  outcomes: {outcomes}")
    _say(f"  faults: {sum(run.faults.values())}, {dict(run.faults)}")
    _say(f"  memory: last third / middle third {run.growth:.4f}")
    _say(f"  {'WRONG: ' + '; '.join(faults) if faults else 'all is well'}")
    await database.close()
    lookout.close()
    return 1 if faults else 0


def main() -> int:
    """Return 0 if everything held."""
    parser = argparse.ArgumentParser(description="A load run with faults.")
    parser.add_argument("--database", choices=URLS, default="postgresql")
    parser.add_argument("--transfers", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    url = make_url(URLS[asked.database])
    with tempfile.TemporaryDirectory() as folder:
        if asked.database == "sqlite":
            return _with_tables(url.set(database=f"{folder}/bank.db"), asked, None)
        name = f"fastkit_soak_{os.getpid()}"
        admin = create_engine(_sync(url), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
            try:
                server = "MariaDB" if asked.database == "mariadb" else "PostgreSQL"
                with Proxy((url.host or "127.0.0.1", url.port or 0), server) as proxy:
                    return _with_tables(url.set(database=name), asked, proxy)
            finally:
                force = "" if asked.database == "mariadb" else " WITH (FORCE)"
                connection.execute(text(f"DROP DATABASE {name}{force}"))
                admin.dispose()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _with_tables(url: Any, asked: argparse.Namespace, proxy: Proxy | None) -> int:
    engine = create_engine(_sync(url))
    Base.metadata.create_all(engine)
    engine.dispose()
    return asyncio.run(soak(url.render_as_string(hide_password=False), asked, proxy))


def _sync(url: Any) -> Any:
    drivers = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql", "sqlite": "sqlite"}
    return url.set(drivername=drivers[url.get_backend_name()])


if __name__ == "__main__":
    sys.exit(main())
