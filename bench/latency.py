"""
How long the slowest requests take: `python bench/latency.py`.

The list of 100 through uvicorn with one worker and eight clients that ask again and again over connections that stay
open, on PostgreSQL through asyncpg. Each app is a process of its own, started once, with `gc.freeze` after its first
requests; the apps take turns, each for a few seconds, in a shuffled order.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.contestants import FASTKIT, HAND  # noqa: E402 - found through the line above
from bench.http import line_up, shop  # noqa: E402 - same
from bench.http.line_up import FLOOR  # noqa: E402 - same
from bench.http.workloads import LIST, PAGES  # noqa: E402 - same
from bench.shop import DRIVERS, store  # noqa: E402 - same

LABEL = "asyncpg"
CLIENTS = 8
PORT = 8650
GOAL = 0.5
FROZEN = b"/frozen"


def serve(name: str, url: str, port: int) -> None:
    """Serve a contestant's app, which takes one request more: to freeze what has been made so far."""
    import uvicorn

    module: Any = line_up.made(name, LABEL, url)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["raw_path"] != FROZEN:
            await module.app(scope, receive, send)
            return
        gc.collect()
        gc.freeze()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(app, port=port, log_level="critical", access_log=False)


async def _ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], target: bytes) -> None:
    """Send one request over a connection that stays open, and read its answer."""
    reader, writer = streams
    writer.write(b"GET " + target + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise AssertionError(head)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))


async def _client(port: int, targets: list[bytes], until: float, taken: list[float]) -> None:
    streams = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while (start := time.perf_counter()) < until:
        await _ask(streams, targets[number % len(targets)])
        taken.append(time.perf_counter() - start)
        number += 1
    streams[1].close()


async def _round(port: int, targets: list[bytes], seconds: float) -> list[float]:
    """Return how long each request took."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, targets, until, taken) for _ in range(CLIENTS)))
    return taken


async def _up(port: int) -> None:
    """Wait until the server listens."""
    for _ in range(200):
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError(f"nobody listens on port {port}")


async def _measure(ports: dict[str, int], targets: dict[str, list[bytes]], asked: argparse.Namespace) -> dict[str, Any]:
    for name, port in ports.items():
        await _up(port)
        await _round(port, targets[name], asked.seconds / 3)
        await _ask(await asyncio.open_connection("127.0.0.1", port), FROZEN)
    rounds: dict[str, list[list[float]]] = {name: [] for name in ports}
    shuffle = random.Random(1)
    for _ in range(asked.rounds):
        for name in shuffle.sample(list(ports), len(ports)):
            rounds[name].append(await _round(ports[name], targets[name], asked.seconds))
    return rounds


@contextmanager
def _served(names: list[str], url: str) -> Iterator[dict[str, int]]:
    ports = {name: PORT + number for number, name in enumerate(names)}
    command = [sys.executable, str(Path(__file__)), "--serve"]
    servers = [subprocess.Popen([*command, name, url, str(port)]) for name, port in ports.items()]
    try:
        yield ports
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(20)


def _targets(name: str, url: str) -> list[bytes]:
    """Return what is asked of a contestant, in turn."""
    module: Any = line_up.made(name, LABEL, url)
    return [f"{each.path}?{each.query}".encode() for each in map(module.ASKS[LIST], range(PAGES))]


def _row(name: str, rounds: list[list[float]], base: list[list[float]], seconds: float) -> str:
    """Return a row of the table: the medians of the rounds."""

    def at(taken: list[float], share: float) -> float:
        return sorted(taken)[int(len(taken) * share)] * 1000

    cells = [f"{statistics.median(len(taken) / seconds for taken in rounds):.0f}"]
    for share in (0.5, 0.99):
        here = [at(taken, share) for taken in rounds]
        ratio = statistics.median(mine / other for mine, other in zip(here, (at(t, share) for t in base), strict=True))
        cells += [f"{statistics.median(here):.1f}", f"{ratio:.2f}"]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Run all rounds, print the table and, after a full run, keep it."""
    parser = argparse.ArgumentParser(prog="bench latency", description="Compare the slowest requests.")
    parser.add_argument("--seconds", type=float, default=3.0, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve[0], asked.serve[1], int(asked.serve[2]))
        return
    driver = next(each for each in DRIVERS if each.label == LABEL)
    names = [HAND, *(name for name in line_up.MODULES if name.startswith(FASTKIT)), FLOOR]
    with tempfile.TemporaryDirectory() as folder, store(driver, Path(folder)) as found:
        if found is None:
            sys.exit("PostgreSQL does not answer")
        shop.fill(found.observer)
        targets = {name: _targets(name, found.url) for name in names}
        with _served(names, found.url) as ports:
            rounds = asyncio.run(_measure(ports, targets, asked))
    head = [
        f"# The list of 100 for {CLIENTS} clients at once\n",
        f"uvicorn, one worker, asyncpg, `gc.freeze`; medians of {asked.rounds} rounds of {asked.seconds:g} s.\n",
        "| app | requests/s | median, ms | / by hand | p99, ms | / by hand |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    text = "\n".join([*head, *(_row(name, rounds[name], rounds[HAND], asked.seconds) for name in names), ""])
    print(text)
    if asked.rounds >= parser.get_default("rounds"):
        (HERE / "results" / "latency.md").write_text(text)


if __name__ == "__main__":
    main()
