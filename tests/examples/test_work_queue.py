"""The work queue: each job exactly once, however many workers there are and whatever becomes of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from children import Child
from servers import DRIVERS, Driver

import work_queue
from fastkit import AsyncDatabase, Timeouts
from work_queue import BATCH, DONE, FAILED, READY, Base, Job, Queue, Worker, fill, work

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "driver",
        [each for each in DRIVERS if each.name in {"sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy"}],
        indirect=True,
        ids=lambda driver: driver.id,
    ),
]

JOBS = {"PostgreSQL": 1_000, "MariaDB": 1_000, "SQLite": 200}  # whose async driver takes fourteen turns for a job
WORKERS = 4
PATIENT = Timeouts(connect=10, pool=60, statement=60, lock=60, commit=60)


@pytest.fixture
async def database(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[AsyncDatabase]:
    """Return a database without a queue."""
    database = AsyncDatabase(url, timeouts=PATIENT)
    yield database
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await database.close()


async def ends(database: AsyncDatabase) -> tuple[Counter[str], Counter[int]]:
    """Return how many jobs are in which state, and how many invoices there are of each."""
    async with Queue.serving(database) as queue:
        states = Counter(job.state for job in await queue.jobs.all())
        return states, Counter(invoice.job_id for invoice in await queue.invoices.all())


async def all_work(database: AsyncDatabase, kind: type[Worker] = Worker) -> None:
    """Let the workers work until no job is left."""
    async with asyncio.TaskGroup() as group:
        for number in range(WORKERS):
            group.create_task(work(database, f"worker {number}", kind))


async def test_each_job_is_done_once_though_a_worker_is_killed(database: AsyncDatabase, driver: Driver) -> None:
    """Four workers do a thousand jobs, those of a fifth, which is killed in the middle, among them."""
    jobs = JOBS[driver.server]
    await fill(database, ["a@example.org"] * jobs)
    committed = asyncio.Event()

    class Watched(Worker):
        async def batch(self) -> int:
            done = await super().batch()
            committed.set()
            return done

    with Child("stuck_worker.py", database.engine.url.render_as_string(hide_password=False)) as child:
        await asyncio.to_thread(child.wait_for, "stuck")
        others = asyncio.create_task(all_work(database, Watched))
        if driver.server != "SQLite":  # where the one that is stuck keeps all others waiting
            await committed.wait()
        child.kill()
        await others
    states, invoices = await ends(database)

    assert states == {DONE: jobs}
    assert (len(invoices), set(invoices.values())) == (jobs, {1})


async def test_workers_wait_for_nobody(database: AsyncDatabase, driver: Driver) -> None:
    """While one holds a batch, another one takes the next; on SQLite it waits for its turn."""
    if driver.server == "SQLite":
        pytest.skip("has one writer")
    await fill(database, ["a@example.org"] * (2 * BATCH))
    async with Queue(database).block(isolation="READ COMMITTED") as first:
        mine = {job.id for job in await Worker(first).claim()}
        async with Queue(database).block(isolation="READ COMMITTED") as second:
            others = {job.id for job in await Worker(second).claim()}
            async with Queue(database).block(isolation="READ COMMITTED") as third:
                left = await Worker(third).claim()

    assert (len(mine), len(others), mine & others, list(left)) == (BATCH, BATCH, set(), [])


async def test_a_job_that_fails_is_tried_again(database: AsyncDatabase) -> None:
    """Three times in all, and what it did each time is undone; the rest of its batch is done."""

    class Shaky(Worker):
        async def do(self, job: Job) -> None:
            await super().do(job)
            await self.uow.session.flush()
            if job.address == "once@example.org" and job.attempts == 0:
                raise RuntimeError
            if job.address == "never@example.org":
                raise RuntimeError

    await fill(database, ["a@example.org", "once@example.org", "never@example.org", "b@example.org"])
    await work(database, "worker", Shaky)
    states, invoices = await ends(database)
    async with Queue.serving(database) as queue:
        jobs = {job.address: (job.attempts, job.fault) for job in await queue.jobs.all()}

    assert states == {DONE: 3, FAILED: 1}
    assert set(invoices.values()) == {1}
    assert jobs["a@example.org"] == (1, None)
    assert jobs["once@example.org"] == (2, "RuntimeError")
    assert jobs["never@example.org"] == (3, "RuntimeError")


async def test_a_batch_that_is_cancelled_is_left_to_the_others(database: AsyncDatabase) -> None:
    """Its jobs are ready again, with no attempt counted."""
    stuck = asyncio.Event()

    class Endless(Worker):
        async def do(self, job: Job) -> None:
            await super().do(job)
            stuck.set()
            await asyncio.Event().wait()

    await fill(database, ["a@example.org"] * 3)
    task = asyncio.create_task(work(database, "endless", Endless))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before: Any = await ends(database)
    await work(database, "worker")

    assert before == (Counter({READY: 3}), Counter())
    assert (await ends(database))[0] == {DONE: 3}


async def test_the_example_runs(database: AsyncDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    """It does a hundred jobs, two of which cannot be done."""
    await work_queue.main(database.engine.url.render_as_string(hide_password=False))

    assert capsys.readouterr().out.endswith("{'done': 98, 'failed': 2}\n")
