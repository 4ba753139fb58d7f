"""C6, C9, C16: `@transactional` makes a function a transaction, which joins an open one and may be run again."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from cancels import by_task_cancel
from colours import awaitable
from conftest import AsyncShop, Shop, World
from deps.apps import answer, app_of, coloured, finished, problem_of

from bookshop.models import Author
from fastkit.database import Retry
from fastkit.deps import provide, transaction
from fastkit.errors import (
    BlockMismatchError,
    DeclarationError,
    OutsideBlockError,
    ReadOnlyError,
    SerializationError,
    UniqueError,
    UnitClosedError,
)
from fastkit.service import Service
from fastkit.uow import Status, transactional

pytestmark = pytest.mark.anyio

QUICK = Retry(attempts=5, delay=0.001)


def decorated(world: World, body: Callable[..., Any], *given: Any, **options: Any) -> Callable[..., Any]:
    """Return *body* as a real `async def` or `def` function with `@transactional`, to be awaited in either colour."""
    if world.driver.is_async:

        @functools.wraps(body)
        async def function(shop: Any, *args: Any, **more: Any) -> Any:
            return await body(shop, *args, **more)
    else:

        @functools.wraps(body)
        def function(shop: Any, *args: Any, **more: Any) -> Any:
            return finished(body(awaitable(shop), *args, **more))

    wrapped = transactional(function) if not options else transactional(**options)(function)

    async def call(shop: Any, *args: Any, **more: Any) -> Any:
        result = wrapped(getattr(shop, "naked", shop), *args, **more)
        return await result if world.driver.is_async else result

    return call


async def stock(world: World, key: int = 1) -> int:
    """Return what is stored, as another unit sees it."""
    async with world.shop() as shop:
        return int((await shop.books.get_one(key)).stock)


async def sell(shop: Any, key: int = 1, *, copies: int = 1) -> int:
    book = await shop.books.get_one(key)
    book.stock -= copies
    return int(book.stock)


class Losing:
    """A body that loses the first attempts."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.attempts = 0

    async def __call__(self, shop: Any, key: int = 1) -> int:
        """Sell a copy, and lose all the same."""
        self.attempts += 1
        left = await sell(shop, key)
        await shop.session.flush()
        if self.attempts <= self.times:
            raise SerializationError("lost")
        return left


LOSSES = functools.partial(Losing, 2)


# -- a transaction


@pytest.mark.parametrize("options", [{}, {"retry": QUICK}], ids=["plain", "retry"])
@pytest.mark.parametrize("made", ["by hand", "served"])
async def test_c16_the_function_is_a_transaction(stocked: World, options, made: str) -> None:
    """It commits on a clean exit and gives back what the function returns; arguments arrive as they are given."""
    function = decorated(stocked, sell, **options)
    if made == "by hand":
        shop = stocked.shop()
        assert await function(shop, 1, copies=2) == 3
    else:
        async with stocked.serving() as shop:
            assert await function(shop, 1, copies=1) == 4
            assert shop.outcome.status is Status.COMMITTED
            assert await function(shop, key=1) == 3

    assert stocked.checked_out == 0
    assert shop.outcome.status is Status.COMMITTED
    assert await stock(stocked) == 3


@pytest.mark.parametrize("options", [{}, {"retry": QUICK}], ids=["plain", "retry"])
async def test_c3_an_error_rolls_it_back(stocked: World, options) -> None:
    """The error arrives as it is, and nothing is stored."""

    async def body(shop: Any) -> None:
        await sell(shop)
        await shop.session.flush()
        raise ValueError("no")

    shop = stocked.shop()
    with pytest.raises(ValueError, match="no"):
        await decorated(stocked, body, **options)(shop)

    assert shop.outcome.status is Status.ROLLED_BACK
    assert await stock(stocked) == 5


@pytest.mark.parametrize("options", [{}, {"retry": QUICK}], ids=["plain", "retry"])
async def test_c5_a_unit_made_by_hand_serves_one_call(stocked: World, options) -> None:
    """As it serves one `with`; the repositories of the call are closed after it."""
    shop, function = stocked.shop(), decorated(stocked, sell, **options)
    await function(shop)

    with pytest.raises(UnitClosedError):
        await function(shop)
    with pytest.raises(UnitClosedError):
        await shop.books.get(1)
    assert await stock(stocked) == 4


async def test_c16_a_method_of_a_service(stocked: World) -> None:
    """The unit is the service's; `__call__` is a method as any other."""
    if stocked.driver.is_async:

        class Seller(Service[AsyncShop]):
            @transactional
            async def __call__(self, key: int) -> int:
                return await sell(self.uow, key)

            @transactional(retry=QUICK, isolation="SERIALIZABLE")
            async def twice(self, key: int, *, copies: int) -> int:
                await sell(self.uow, key, copies=copies)
                return await sell(self.uow, key, copies=copies)

        async with AsyncShop.serving(stocked.naked) as shop:
            assert await Seller(shop)(1) == 4
            assert await Seller(shop).twice(1, copies=1) == 2
        assert await Seller(AsyncShop(stocked.naked))(key=1) == 1
    else:

        class SyncSeller(Service[Shop]):
            @transactional
            def __call__(self, key: int) -> int:
                return int(finished(sell(awaitable(self.uow), key)))

            @transactional(retry=QUICK, isolation="SERIALIZABLE")
            def twice(self, key: int, *, copies: int) -> int:
                finished(sell(awaitable(self.uow), key, copies=copies))
                return int(finished(sell(awaitable(self.uow), key, copies=copies)))

        with Shop.serving(stocked.naked) as unit:
            assert SyncSeller(unit)(1) == 4
            assert SyncSeller(unit).twice(1, copies=1) == 2
        assert SyncSeller(Shop(stocked.naked))(key=1) == 1

    assert await stock(stocked) == 1


async def test_c16_the_unit_may_be_given_by_name(stocked: World) -> None:
    """As FastAPI calls an endpoint, and as a careful caller does."""
    if stocked.driver.is_async:

        @transactional
        async def restock(shop: AsyncShop, key: int) -> int:
            return await sell(shop, key, copies=-1)

        assert await restock(key=1, shop=AsyncShop(stocked.naked)) == 6
    else:

        @transactional
        def restock_sync(shop: Shop, key: int) -> int:
            return int(finished(sell(awaitable(shop), key, copies=-1)))

        assert restock_sync(key=1, shop=Shop(stocked.naked)) == 6


async def test_c22_the_options_are_those_of_a_block(stocked: World) -> None:
    """Read-only mode reaches the guard and the database."""

    async def write(shop: Any) -> None:
        shop.authors.add(Author(name="Ovid"))

    for options in ({"read_only": True}, {"read_only": True, "retry": QUICK}):
        with pytest.raises(ReadOnlyError):
            await decorated(stocked, write, **options)(stocked.shop())


# -- nested


async def test_c6_it_joins_an_open_block(stocked: World) -> None:
    """Its end flushes and commits nothing; the outermost block decides."""
    inner = decorated(stocked, sell)
    outer = decorated(stocked, inner)

    async with stocked.shop() as shop:
        assert await inner(shop) == 4
        assert shop.outcome.status is Status.ACTIVE
        await shop.rollback()
    assert await stock(stocked) == 5

    if stocked.driver.is_async:
        assert await outer(stocked.shop()) == 4
        assert await stock(stocked) == 4


async def test_c6_its_end_flushes(stocked: World) -> None:
    """Keys and constraint errors appear where the function ends."""

    async def add(shop: Any) -> None:
        shop.authors.add(Author(id=9, name="Jane Austen"))

    async with stocked.shop() as shop:
        with pytest.raises(UniqueError):
            await decorated(stocked, add)(shop)
        await shop.rollback()


async def test_c7_its_error_dooms_the_open_block(stocked: World) -> None:
    """As with every nested block."""

    async def body(shop: Any) -> None:
        raise ValueError("no")

    with pytest.raises(Exception, match="ValueError was raised"):
        async with stocked.shop() as shop:
            with pytest.raises(ValueError, match="no"):
                await decorated(stocked, body)(shop)
            await shop.commit()


@pytest.mark.parametrize("made", ["by hand", "served", "begin", "savepoint", "ended"])
async def test_c16_retry_inside_an_open_block_is_refused(stocked: World, made: str) -> None:
    """Only a whole transaction can run again; nothing of the function has run, and the block goes on."""
    work = LOSSES()
    function = decorated(stocked, work, retry=QUICK)

    async def refused(shop: Any) -> None:
        with pytest.raises(BlockMismatchError, match="retry"):
            await function(shop)

    if made == "served":
        async with stocked.serving() as shop, shop:
            await refused(shop)
    elif made == "begin":
        async with stocked.shop().begin() as shop:
            await refused(shop)
    elif made == "savepoint":
        async with stocked.shop() as shop, shop.savepoint():
            await refused(shop)
    elif made == "ended":
        async with stocked.shop() as shop:
            await shop.commit()
            await refused(shop)
    else:
        async with stocked.shop() as shop:
            await refused(shop)
            assert await shop.books.count() == 2

    assert work.attempts == 0


async def test_c9_what_the_open_block_is_not_is_refused(stocked: World) -> None:
    """An isolation level that it does not have, or a durable block inside another."""
    for options in ({"isolation": "SERIALIZABLE"}, {"durable": True}, {"read_only": True}, {"timeout": 3}):
        async with stocked.shop() as shop:
            with pytest.raises(BlockMismatchError):
                await decorated(stocked, sell, **options)(shop)


# -- again


@pytest.mark.parametrize("made", ["by hand", "served"])
async def test_c16_a_lost_race_runs_again(stocked: World, made: str) -> None:
    """With the same arguments, in a new session of the same unit."""
    work = LOSSES()
    function = decorated(stocked, work, retry=QUICK)
    if made == "by hand":
        assert await function(stocked.shop(), 1) == 4
    else:
        async with stocked.serving() as shop:
            assert (await shop.books.get_one(1)).stock == 5
            assert await function(shop, 1) == 4
            assert (await shop.books.get_one(1)).stock == 4
            assert await sell_in_a_block(shop) == 3

    assert work.attempts == 3
    assert stocked.checked_out == 0


async def sell_in_a_block(shop: Any) -> int:
    async with shop.begin():
        return await sell(shop)


async def test_c16_without_retry_nothing_is_repeated(stocked: World) -> None:
    """The default."""
    work = LOSSES()
    with pytest.raises(SerializationError):
        await decorated(stocked, work)(stocked.shop())

    assert work.attempts == 1


async def test_c16_the_last_error_is_raised_with_a_note(stocked: World) -> None:
    """And the unit that was served goes on after it."""
    work = Losing(99)
    async with stocked.serving() as shop:
        with pytest.raises(SerializationError) as caught:
            await decorated(stocked, work, retry=Retry(attempts=3, delay=0.001))(shop)
        assert (await shop.books.get_one(1)).stock == 5

    assert work.attempts == 3
    assert any("3 attempt" in note for note in caught.value.__notes__)


async def test_c16_repositories_are_read_from_the_unit_again(stocked: World) -> None:
    """One that was kept from before says why it is closed; the unit has new ones."""
    async with stocked.serving() as shop:
        kept = shop.books
        before = await kept.get_one(1)
        assert await decorated(stocked, LOSSES(), retry=QUICK)(shop) == 4

        with pytest.raises(UnitClosedError, match=r"new attempt.*shop\.books"):
            await kept.get_one(1)
        assert (await shop.books.get_one(1)).stock == 4
        assert before.title == "Emma", "an object of before is detached with its values"


async def test_c16_a_service_reads_its_repositories_from_the_unit(stocked: World) -> None:
    """`self.uow.books` is right on every attempt."""
    attempts = []

    class Seller(Service[stocked.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        pass

    async def body(service: Any) -> int:
        attempts.append(1)
        left = await sell(awaitable(service.uow))
        await awaitable(service.uow).session.flush()
        if len(attempts) < 3:
            raise SerializationError("lost")
        return left

    assert await decorated(stocked, body, retry=QUICK)(Seller(stocked.unit(stocked.naked))) == 4
    assert len(attempts) == 3


async def test_c16_each_call_has_attempts_of_its_own(stocked: World) -> None:
    """The decorator counts nothing over several calls."""
    async with stocked.serving() as shop:
        for _ in range(3):
            await decorated(stocked, Losing(3), retry=Retry(attempts=4, delay=0.001))(shop)

    assert await stock(stocked) == 2


# -- wrong uses


def generator(shop: Any) -> Iterator[int]:
    yield 1


async def async_generator(shop: Any) -> AsyncIterator[int]:
    yield 1


def nothing() -> None: ...


async def nothing_async() -> None: ...


class OfTheApp:
    """A class, which is callable too."""

    def __init__(self, shop: Any) -> None: ...


@pytest.mark.parametrize(
    "wrong", [generator, async_generator, nothing, nothing_async, OfTheApp, 5, "work", Retry(), classmethod(sell)]
)
@pytest.mark.parametrize("decorator", [transactional, transactional(), transactional(retry=QUICK)])
def test_c16_what_cannot_be_a_transaction_is_told_when_it_is_decorated(decorator: Any, wrong: Any) -> None:
    """Generators, classes, functions that take nothing, and what is no function."""
    with pytest.raises(DeclarationError, match=r"@transactional decorates|needs a first parameter"):
        decorator(wrong)


@pytest.mark.parametrize("wrong", [3, True, {"attempts": 3}, Retry])
def test_c16_a_retry_is_a_retry(wrong: Any) -> None:
    """A number is not one; the message says how it is written."""
    with pytest.raises(DeclarationError, match=r"Retry\(attempts=\.\.\.\)"):
        transactional(retry=wrong)(sell)


def test_c9_an_isolation_level_that_no_database_has_is_told_when_it_is_decorated() -> None:
    """At import, not when a customer comes."""
    with pytest.raises(DeclarationError, match="Unknown isolation level"):
        transactional(isolation="SNAPSHOT")(sell)  # type: ignore[arg-type]  # that is the mistake


def given_nothing(function: Any) -> Any:
    return function()


def given_a_number(function: Any) -> Any:
    return function(5)


def given_a_class(function: Any) -> Any:
    return function(AsyncShop)


def given_a_service_without_a_unit(function: Any) -> Any:
    return function(Service(None))  # type: ignore[type-var]  # that is the mistake


@pytest.mark.parametrize(
    "call",
    [given_nothing, given_a_number, given_a_class, given_a_service_without_a_unit],
    ids=lambda call: call.__name__,
)
async def test_c16_a_first_argument_that_is_no_unit_is_told(call) -> None:
    """With what it was, and what it must be; in both colours."""

    @transactional
    def work(shop: Any) -> None:
        raise AssertionError("it was run")

    @transactional(retry=QUICK)
    async def work_async(shop: Any) -> None:
        raise AssertionError("it was run")

    with pytest.raises(DeclarationError, match=r"work is @transactional.* a unit of work or has one"):
        call(work)
    with pytest.raises(DeclarationError, match=r"work_async is @transactional.*AsyncUnitOfWork"):
        await call(work_async)


async def test_c16_the_colours_are_not_mixed(stocked: World) -> None:
    """A `def` function takes a sync unit, an `async def` one an async unit; the other one is told, unused."""

    @transactional
    def work(shop: Any) -> None:
        raise AssertionError("it was run")

    @transactional
    async def work_async(shop: Any) -> None:
        raise AssertionError("it was run")

    shop = stocked.unit(stocked.naked)
    with pytest.raises(DeclarationError, match="first argument is a unit of work"):
        if stocked.driver.is_async:
            work(shop)
        else:
            await work_async(shop)

    assert shop.outcome.status is Status.ACTIVE


# -- what stays


def test_c16_a_decorated_function_stays_what_it_was() -> None:
    """Name, docstring, signature and colour: FastAPI, documentation and other decorators look at them."""

    @transactional(retry=QUICK)
    async def transfer(shop: AsyncShop, source: int, target: int = 2, *, amount: int) -> bool:
        """Move copies."""
        return True

    @transactional
    def transfer_sync(shop: Shop, source: int) -> bool:
        """Move copies, sync."""
        return True

    assert transfer.__name__ == "transfer"
    assert transfer.__doc__ == "Move copies."
    assert list(inspect.signature(transfer).parameters) == ["shop", "source", "target", "amount"]
    assert inspect.iscoroutinefunction(transfer)
    assert not inspect.iscoroutinefunction(transfer_sync)
    assert transfer_sync.__module__ == __name__


async def test_c16_a_cancellation_ends_it(stocked: World) -> None:
    """It rolls back, and nothing runs again."""
    if not stocked.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    attempts, sold = [], asyncio.Event()

    @transactional(retry=QUICK)
    async def linger(shop: Any) -> None:
        attempts.append(1)
        await sell(shop)
        sold.set()
        await asyncio.sleep(5)

    with pytest.raises(asyncio.CancelledError):
        await by_task_cancel(linger(stocked.unit(stocked.naked)), sold)

    assert len(attempts) == 1
    assert await stock(stocked) == 5


# -- in an app


def service_of(world: World, work: Losing) -> Any:
    """Return a service whose method is run again, in the colour of a world."""
    if world.driver.is_async:

        class Seller(Service[AsyncShop]):
            @transactional(retry=QUICK, isolation="SERIALIZABLE")
            async def sell(self, key: int) -> int:
                return await work(self.uow, key)

        return Seller

    class SyncSeller(Service[Shop]):
        @transactional(retry=QUICK, isolation="SERIALIZABLE")
        def sell(self, key: int) -> int:
            return int(finished(work(awaitable(self.uow), key)))

    return SyncSeller


@pytest.mark.parametrize("losses", [2, 99])
async def test_c16_a_service_of_a_route_runs_again(stocked: World, losses: int) -> None:
    """The unit of the request takes a new session for each attempt; giving up is a problem document."""
    app, work = app_of(stocked), Losing(losses)

    async def route(seller: Annotated[Any, provide(service_of(stocked, work))]) -> int:
        answered = seller.sell(1)
        return int(await answered if stocked.driver.is_async else answered)

    app.post("/")(coloured(stocked, route))

    response = await answer(app, method="POST")

    if losses == 2:
        assert response.json() == 4
    else:
        assert problem_of(response)["status"] == 409
    assert await stock(stocked) == (4 if losses == 2 else 5)


async def test_c16_inside_the_transaction_of_a_request_retry_is_refused(stocked: World) -> None:
    """`transaction(Shop)` is the outermost block, so the service cannot be run again in it: a mistake of the app."""
    app, work, raised = app_of(stocked), Losing(2), []

    async def route(
        shop: Annotated[Any, transaction(stocked.unit)], seller: Annotated[Any, provide(service_of(stocked, work))]
    ) -> None:
        try:
            answered = seller.sell(1)
            if stocked.driver.is_async:
                await answered
        except (BlockMismatchError, OutsideBlockError) as error:
            raised.append(error)

    app.post("/")(coloured(stocked, route))

    await answer(app, method="POST")

    assert isinstance(raised[0], BlockMismatchError)
    assert work.attempts == 0
