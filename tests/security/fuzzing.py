"""
A million query strings and a hundred thousand bodies: `python tests/security/fuzzing.py`, or `make fuzz`.

Half of them go to the bookshop of the examples, half to an app with everything; half of each are on PostgreSQL. The
same seed makes the same requests. It makes databases of its own and drops them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "examples")]

from security.driving import Findings  # noqa: E402 - found through the line above
from security.grammar import Requests  # noqa: E402 - same
from security.scenes import SCENES  # noqa: E402 - same
from servers import POSTGRES, missing, send  # noqa: E402 - same
from sqlalchemy import make_url  # noqa: E402 - same

SHARD = 10_000
"""Query strings that one process sends to a fresh database."""

AT_ONCE = 8
"""Query strings that are under way at the same time."""


async def fuzzed(scene: str, url: str, asks: tuple[int, int], seed: int) -> dict[str, Any]:
    """Send so many query strings and bodies to an app; return what was seen."""
    began, findings = time.perf_counter(), Findings()
    async with SCENES[scene](url) as opened:
        requests = Requests(opened.targets, seed)
        asked = iter([requests.query() for _ in range(asks[0])])

        async def ask() -> None:
            for request in asked:  # shared, so that the process waits for no single statement
                await findings.look(opened.app, request)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(ask())
        for _ in range(asks[1]):  # one after the other, because on SQLite writers wait for each other
            await findings.look(opened.app, requests.write())
        strangers = opened.strangers
    return {
        "scene": scene,
        "server": make_url(url).get_backend_name(),
        "seed": seed,
        "asks": asks,
        "seconds": round(time.perf_counter() - began, 1),
        "statuses": dict(findings.statuses),
        "shapes": len(opened.statements.shapes),
        "faults": [(fault[:400], repr(request)[:600]) for fault, request in findings.faults[:20]],
        "strangers": [(shape, sorted(found)) for shape, found in strangers.items()],
    }


def run_shard(scene: str, server: str, asks: tuple[int, int], seed: int) -> dict[str, Any]:
    """Do the same on a database that is made for it."""
    if server == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(fuzzed(scene, f"sqlite+aiosqlite:///{folder}/fuzzing.db", asks, seed))
    name = f"fastkit_fuzzing_{os.getpid()}_{seed}"
    send("PostgreSQL", f"CREATE DATABASE {name}")
    try:
        url = make_url(f"postgresql+asyncpg://{POSTGRES}").set(database=name)
        return asyncio.run(fuzzed(scene, url.render_as_string(hide_password=False), asks, seed))
    finally:
        send("PostgreSQL", f"DROP DATABASE {name} WITH (FORCE)")


def main(arguments: list[str]) -> int:
    """Return 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--after", type=int, default=0, help="leave out so many query strings, sent by an earlier run")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    servers = ["sqlite"] if missing("PostgreSQL") else ["sqlite", "postgresql"]
    shards = -(-chosen.queries // SHARD)
    places = [(scene, server) for scene in SCENES for server in servers]
    asks = (SHARD, chosen.bodies // shards)
    began, statuses, bad = time.perf_counter(), Counter[str](), 0
    with ProcessPoolExecutor(
        chosen.processes, max_tasks_per_child=1, initializer=logging.disable, initargs=(logging.CRITICAL,)
    ) as pool:
        running = [
            pool.submit(run_shard, *places[n % len(places)], asks, chosen.seed * 10**6 + n)
            for n in range(chosen.after // SHARD, shards)
        ]
        for done in running:
            result = done.result()
            statuses.update({str(status): count for status, count in result["statuses"].items()})
            bad += bool(result["faults"] or result["strangers"])
            print(json.dumps(result), flush=True)  # noqa: T201 - for whoever runs it
    minutes = (time.perf_counter() - began) / 60
    print(f"{sum(statuses.values()):,} requests in {minutes:.1f} minutes, {bad} shards with faults: {dict(statuses)}")  # noqa: T201 - same
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
