"""Rate limits: so many requests a client, told by headers, and a problem document for the next one."""

import asyncio
import os
import re
import socket
import uuid
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends
from recipes.page import client, loaded, started

REDIS = os.environ.get("FASTKIT_REDIS", "redis://127.0.0.1:6379/0")
REQUIRED = os.environ.get("FASTKIT_REQUIRE_SERVERS") == "1"


def redis_answers() -> bool:
    """Return whether there is a Redis."""
    found = re.match(r"redis://([^:/]+):(\d+)", REDIS)
    assert found is not None
    with socket.socket() as line:
        line.settimeout(1)
        return line.connect_ex((found[1], int(found[2]))) == 0


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that the code of the page makes."""
    return loaded(tmp_path, monkeypatch)


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest, recipes: Any) -> Any:
    """Return what makes a storage inside of an event loop, and what closes it."""
    if request.param == "memory":
        return lambda: (recipes.storage_from_string("async+memory://"), None)
    if not redis_answers():
        (pytest.fail if REQUIRED else pytest.skip)("not found: Redis")
    return lambda: recipes.redis_storage(REDIS, patience=30)


def limited(recipes: Any, storage: Any, limit: str, policy: str) -> Any:
    """Return an app with one route, which lets in so many requests."""
    app = recipes.FastAPI()
    recipes.install(app, {})
    asked: list[int] = []

    @app.get("/", dependencies=[Depends(recipes.RateLimit(policy, limit, storage))])
    async def see() -> int:
        asked.append(1)
        return len(asked)

    return app


def run(recipes: Any, storage: Any, limit: str, times: int, *, at_once: bool = False) -> list[httpx2.Response]:
    """Return the answers to so many requests of one client."""
    policy = f"p-{uuid.uuid4().hex}"

    async def visit() -> list[httpx2.Response]:
        made, pool = storage()
        try:
            async with client(limited(recipes, made, limit, policy)) as asking:
                if at_once:
                    return list(await asyncio.gather(*(asking.get("/") for _ in range(times))))
                return [await asking.get("/") for _ in range(times)]
        finally:
            if pool is not None:
                await pool.aclose()

    return asyncio.run(visit())


def told(response: httpx2.Response) -> tuple[int, int, int, int]:
    """Return quota, window, what remains and the seconds until the window ends; check the syntax (RFC 9651)."""
    policy = re.fullmatch(r'"([\w-]+)";q=(\d+);w=(\d+)', response.headers["ratelimit-policy"])
    state = re.fullmatch(r'"([\w-]+)";r=(\d+);t=(\d+)', response.headers["ratelimit"])
    assert policy is not None
    assert state is not None
    assert policy[1] == state[1]
    return int(policy[2]), int(policy[3]), int(state[2]), int(state[3])


def test_so_many_are_let_in_and_told(recipes: Any, storage: Any) -> None:
    """Each answer tells the policy and what remains; the next one is refused before the endpoint is called."""
    answers = run(recipes, storage, "3/day", 5)
    remaining = [told(response)[2] for response in answers]

    assert [response.status_code for response in answers] == [200, 200, 200, 429, 429]
    assert [response.json() for response in answers[:3]] == [1, 2, 3]
    assert remaining == [2, 1, 0, 0, 0]
    assert {told(response)[:2] for response in answers} == {(3, 86_400)}
    assert all(1 <= told(response)[3] <= 86_400 for response in answers)


def test_a_refusal_is_a_problem_document(recipes: Any, storage: Any) -> None:
    """Its type is the registered one; `Retry-After` is not before the window ends."""
    _, refused = run(recipes, storage, "1/day", 2)
    policy = re.findall('"(.*?)"', refused.headers["ratelimit"])

    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota exceeded",
        "status": 429,
        "detail": "Too many requests: wait for as long as Retry-After says.",
        "violated-policies": policy,
    }
    assert int(refused.headers["retry-after"]) >= told(refused)[3]


def test_at_once_no_more_are_let_in(recipes: Any, storage: Any) -> None:
    """However many come at the same moment: more than the pool has connections, and none of them fails."""
    answers = run(recipes, storage, "10/day", 60, at_once=True)
    statuses = [response.status_code for response in answers]

    assert (statuses.count(200), statuses.count(429)) == (10, 50)


def test_who_waits_is_let_in(recipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as many seconds as `Retry-After` says, and not before, a client has a full quota again."""
    import limits.storage.memory
    from limits.aio.storage import memory

    class Clock:
        now = 1000.25

        def time(self) -> float:
            return self.now

    clock = Clock()
    for module in (memory, limits.storage.memory, recipes):
        monkeypatch.setattr(module, "time", clock)
    made = recipes.storage_from_string("async+memory://")

    async def visit() -> list[int]:
        async with client(limited(recipes, made, "2/minute", "reads")) as asking:
            statuses = [(await asking.get("/")).status_code for _ in range(2)]
            refused = await asking.get("/")
            clock.now += int(refused.headers["retry-after"]) - 2
            statuses += [refused.status_code, (await asking.get("/")).status_code]
            clock.now += 2
            again = await asking.get("/")
            return [*statuses, again.status_code, told(again)[2]]

    assert asyncio.run(visit()) == [200, 200, 429, 429, 200, 1]


def test_clients_are_counted_apart(recipes: Any, storage: Any) -> None:
    """The quota is of one address."""

    async def visit() -> list[int]:
        made, pool = storage()
        app = limited(recipes, made, "1/day", f"p-{uuid.uuid4().hex}")
        statuses = []
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            transport = httpx2.ASGITransport(app=app, client=(address, 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as asking:
                statuses.append((await asking.get("/")).status_code)
        if pool is not None:
            await pool.aclose()
        return statuses

    assert asyncio.run(visit()) == [200, 200, 429]


def test_a_storage_that_does_not_answer_lets_in(recipes: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that is down stops counting, and nothing else."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"redis://127.0.0.1:{nobody.getsockname()[1]}/0"
        answers = run(recipes, lambda: recipes.redis_storage(address), "1/day", 3)

    assert [response.status_code for response in answers] == [200, 200, 200]
    assert all("ratelimit" not in response.headers for response in answers)
    assert "the storage does not answer" in caplog.text


def test_the_route_of_the_page_is_limited(recipes: Any) -> None:
    """It reads, and tells its quota."""

    async def visit() -> Any:
        async with started(recipes), client(recipes.served) as asking:
            return await asking.get("/authors")

    response = asyncio.run(visit())

    assert (response.status_code, response.json()) == (200, 0)
    assert told(response)[:3] == (100, 60, 99)
    assert "RateLimit" in response.headers["access-control-expose-headers"]


def test_a_refused_request_takes_no_connection(recipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `dependencies=` of the route, the limit comes before the unit of work."""
    taken: list[int] = []
    shop_of = recipes.unit_of_work(recipes.Shop)

    async def count(shop: Annotated[Any, shop_of]) -> int:
        taken.append(await shop.authors.count())
        return len(taken)

    limit = recipes.RateLimit("one", "1/day", recipes.storage_from_string("async+memory://"))
    recipes.app.add_api_route("/limited", count, dependencies=[Depends(limit)])
    made: list[int] = []
    serve = recipes.Shop._serve
    monkeypatch.setattr(recipes.Shop, "_serve", lambda unit: made.append(1) or serve(unit))

    async def visit() -> list[int]:
        async with started(recipes), client(recipes.served) as asking:
            return [(await asking.get("/limited")).status_code for _ in range(3)]

    assert asyncio.run(visit()) == [200, 429, 429]
    assert (made, taken) == ([1], [0])
