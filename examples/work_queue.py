"""
A work queue in a table: workers take jobs in batches, and none takes what another one has.

    python examples/work_queue.py [url]

A job is done in the transaction that marks it as done, so a worker that is killed leaves its jobs to the others. A job
that fails is tried three times.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, Retry, Service, transactional

BATCH, ATTEMPTS, PAUSE = 25, 3, 0.05
READY, DONE, FAILED = "ready", "done", "failed"


class Base(DeclarativeBase):
    """The tables."""


class Job(Base):
    """Something to be done once."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_state", "state", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(10), default=READY)
    attempts: Mapped[int] = mapped_column(default=0)
    fault: Mapped[str | None] = mapped_column(String(200))


class Invoice(Base):
    """What a job leaves behind."""

    __tablename__ = "invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    worker: Mapped[str] = mapped_column(String(20))


class Queue(AsyncUnitOfWork):
    """Jobs, and what they make."""

    jobs: AsyncRepository[Job]
    invoices: AsyncRepository[Invoice]


class Worker(Service[Queue]):
    """Takes jobs and does them, a batch in a transaction."""

    name = "nobody"

    # READ COMMITTED, so that MariaDB locks the jobs that it finds, and not those that it looks at.
    @transactional(isolation="READ COMMITTED", retry=Retry())
    async def batch(self) -> int:
        """Do what is ready and what no other worker has; return how many jobs that were."""
        jobs = await self.claim()
        for job in jobs:
            await self.attempt(job)
        return len(jobs)

    async def claim(self) -> Sequence[Job]:
        """Lock the oldest jobs that are free; the lock is the claim, and it ends with the transaction."""
        free = self.uow.jobs.order_by(Job.id).for_update(skip_locked=True)
        return (await self.uow.session.scalars(free.select(Job.state == READY).limit(BATCH))).all()

    async def attempt(self, job: Job) -> None:
        """Do one job; if it fails, only what it did is undone."""
        try:
            async with self.uow.savepoint():
                await self.do(job)
            job.state = DONE
        except Exception as error:  # noqa: BLE001 - whatever a job raises is a fault of the job
            job.fault = type(error).__name__
            job.state = FAILED if job.attempts + 1 >= ATTEMPTS else READY
        job.attempts += 1

    async def do(self, job: Job) -> None:
        """Write the invoice."""
        if "@" not in job.address:
            raise ValueError("no address")
        self.uow.invoices.add(Invoice(job_id=job.id, worker=self.name))


async def work(database: AsyncDatabase, name: str, kind: type[Worker] = Worker) -> None:
    """Work until no job is left, not even one that another worker has and may have to give up."""
    async with Queue.serving(database) as queue:
        worker = kind(queue)
        worker.name = name
        while True:
            if not await worker.batch():
                if not await queue.jobs.exists(Job.state == READY):
                    return
                await asyncio.sleep(PAUSE)


async def fill(database: AsyncDatabase, addresses: Sequence[str]) -> None:
    """Make the tables, and add a job for each address."""
    await database.create_all(Base.metadata)
    async with Queue(database) as queue:
        queue.jobs.add_all([Job(address=address) for address in addresses])
        await queue.commit()


async def main(url: str) -> None:
    """Let four workers do a hundred jobs, two of which cannot be done."""
    async with AsyncDatabase(url) as database:
        await fill(database, [f"customer{number}@example.org" for number in range(98)] + ["nowhere", "unknown"])
        await asyncio.gather(*(work(database, f"worker {number}") for number in range(1, 5)))
        async with Queue.serving(database) as queue:
            print(dict(Counter(invoice.worker for invoice in await queue.invoices.all())))
            print(dict(Counter(job.state for job in await queue.jobs.all())))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite+aiosqlite:///work_queue.db"))
