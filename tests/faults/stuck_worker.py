"""
A worker of examples/work_queue.py that gets stuck in the middle of its first batch: `python stuck_worker.py URL`.

It says "stuck" when it has written some invoices that are not committed, and stays so until it is killed.
"""

from __future__ import annotations

import asyncio
import sys

from fastkit import AsyncDatabase
from work_queue import Job, Worker, work


class Stuck(Worker):
    """A worker that does five jobs, and no more."""

    done = 0

    async def do(self, job: Job) -> None:
        """Do one job; the sixth never ends."""
        if self.done == 5:
            sys.stdout.write("stuck\n")
            sys.stdout.flush()
            await asyncio.Event().wait()
        await super().do(job)
        await self.uow.session.flush()
        self.done += 1


if __name__ == "__main__":
    asyncio.run(work(AsyncDatabase(sys.argv[1]), "stuck", Stuck))
