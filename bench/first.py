"""
Compare fastkit with hand-written SQLAlchemy that does the same: `python bench/first.py`.

bench/README.md says how to read what it prints.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.contestants import FASTKIT, HAND, OPERATIONS, contestants  # noqa: E402 - found through the line above
from bench.measure import Runners, assert_equal_outcomes, measure, run  # noqa: E402 - same
from bench.report import Cell, facts, markdown, write  # noqa: E402 - same
from bench.shop import DRIVERS, Driver, Store, store  # noqa: E402 - same

from fastkit.database import AsyncDatabase, Database  # noqa: E402 - same

FULL, QUICK = 6.0, 0.4


def main() -> None:
    """Run every cell, print the table and, after a full run, keep it."""
    asked = _arguments()
    load, servers, cells = os.getloadavg(), dict[str, str](), list[Cell]()
    with tempfile.TemporaryDirectory() as folder:
        for driver in DRIVERS:
            with store(driver, Path(folder)) as found:
                if found is None:
                    print(f"not measured, because its server does not answer: {driver.label}", file=sys.stderr)
                    continue
                servers["PostgreSQL" if driver.is_server else "SQLite"] = found.version
                cells += run(_driver(driver, found, asked))
    if not cells:
        sys.exit("Nothing was measured.")
    known = facts(servers, load)
    text = markdown(cells, known)
    print(text)
    if not (asked.quick or asked.only):
        write(HERE / "results", text, cells, known)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare fastkit with hand-written SQLAlchemy.")
    parser.add_argument("--seconds", type=float, default=FULL, help="for each cell, that is driver and operation")
    parser.add_argument("--quick", action="store_true", help="only see that it works; keep no result")
    parser.add_argument("--only", default="", help="cells whose 'driver: operation' has this in it; keep no result")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which contestants take turns")
    asked = parser.parse_args()
    asked.seconds = min(asked.seconds, QUICK) if asked.quick else asked.seconds
    return asked


async def _driver(driver: Driver, found: Store, asked: argparse.Namespace) -> list[Cell]:
    make: Any = AsyncDatabase if driver.is_async else Database
    databases = [make(found.url) for _ in range(3)]
    engines = [getattr(each.engine, "sync_engine", each.engine) for each in databases]
    everybody, shuffle, cells = contestants(*databases), random.Random(asked.seed), {}
    for index in (1, 2, 3, 4, 0):  # the inserts come last, so that the table is the same for the others
        if asked.only not in f"{driver.label}: {OPERATIONS[index]}":
            continue
        runners: Runners = {each.name: run for each in everybody if (run := each.operations[index])}
        await assert_equal_outcomes(runners, engines, found)
        timings = await measure(runners, seconds=asked.seconds, shuffle=shuffle)
        cells[index] = Cell(driver.label, OPERATIONS[index], timings)
        print(f"{driver.label}: {OPERATIONS[index]}: {cells[index].ratio(FASTKIT)} of {HAND}", file=sys.stderr)
    for database in databases:
        closing = database.close()
        if closing is not None:
            await closing
    return [cells[index] for index in sorted(cells)]


if __name__ == "__main__":
    main()
