"""Equal answers first: status, rows, totals, and what is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.http.client import answer, ask
from bench.http.line_up import Contestant
from bench.http.shop import ROWS, Book
from bench.http.workloads import CREATE, DEEP, EXPORT, UPDATE
from sqlalchemy import Engine, select

NUMBERS = (1, 2, 6)


async def assert_equal(workload: str, contestants: Sequence[Contestant], observer: Engine) -> dict[str, float]:
    """
    Compare the answers of all contestants to one workload.

    Returns:
        Of an export: by how many megabytes the process grew meanwhile, for each contestant.

    Raises:
        AssertionError: One answers or stores something else than the first.
    """
    grown = dict[str, float]()
    expected: Any = None
    for each in contestants:
        found: Any
        if workload == EXPORT:
            found, grown[each.name] = await _digest(each)
        else:
            found = [await _plain(workload, each, number, observer) for number in NUMBERS]
        expected = expected or found
        if found != expected:
            raise AssertionError(f"{each.name} answers something else to {workload!r}:\n{found}\n{expected}"[:4000])
    return grown


async def _plain(workload: str, contestant: Contestant, number: int, observer: Engine) -> Any:
    request = contestant.asks[workload](number)
    found = json.loads(await answer(contestant.app, request))
    if workload == DEEP:
        return found["items"]  # cursors differ
    if workload in {CREATE, UPDATE}:
        with observer.connect() as connection:
            stock = connection.scalar(select(Book.stock).where(Book.id == found["id"]))
        if stock != found["stock"] or stock != json.loads(request.body)["stock"]:
            raise AssertionError(f"{contestant.name} answers what it did not store: {found}, {stock}")
        if workload == CREATE and found["id"] <= ROWS:
            raise AssertionError(f"{contestant.name} did not add a row: {found}")
        del found["id" if workload == CREATE else "stock"]
    return found


async def _digest(contestant: Contestant) -> tuple[tuple[int, str], float]:
    digest, count, rest = hashlib.sha256(), 0, b""
    before = most = _resident()

    def take(part: bytes) -> None:
        nonlocal count, rest, most
        most = max(most, _resident())
        *lines, rest = (rest + part).split(b"\n")
        count += len(lines)
        for line in lines:
            digest.update(json.dumps(json.loads(line), sort_keys=True).encode())

    status = await ask(contestant.app, contestant.asks[EXPORT](0), take)
    if status != 200 or count != ROWS or rest:  # noqa: PLR2004 - RFC 9110: OK
        raise AssertionError(f"{contestant.name} exports {count} rows, {status}")
    return (count, digest.hexdigest()), most - before


def _resident() -> float:
    """Return the megabytes that this process holds; 0 where the system does not tell."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * 4096 / 1e6 if file.exists() else 0.0
