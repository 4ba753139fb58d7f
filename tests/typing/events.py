"""What type checkers know of hooks, events and their handlers; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, assert_type

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, Database, Outcome, Repository, Status, UnitOfWork
from fastkit.errors import HookError
from fastkit.events import EventHandlers, RecordsEvents, recorded


@dataclass(frozen=True)
class OrderPlaced:
    """An event."""

    order_id: int


@dataclass(frozen=True)
class OrderPlacedAbroad(OrderPlaced):
    """An event of a subclass."""

    country: str


class Base(DeclarativeBase):
    """A declarative base."""


class Order(RecordsEvents, Base):
    """An entity that records."""

    __tablename__ = "typed_order"

    id: Mapped[int] = mapped_column(primary_key=True)

    def place(self) -> None:
        """Record."""
        assert_type(self.record(OrderPlaced(self.id)), None)


handlers = EventHandlers()
sync_handlers = EventHandlers()


class Shop(AsyncUnitOfWork, events=handlers):
    """An async unit with handlers."""

    orders: AsyncRepository[Order]


class SyncShop(UnitOfWork, events=sync_handlers, confirm_commit=True):
    """A sync unit with handlers."""

    orders: Repository[Order]


class Wrong(UnitOfWork, events=[]):  # type: ignore[arg-type]  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    """A unit with something else."""


@handlers.before_commit(OrderPlaced)
async def reserve(event: OrderPlaced, shop: Shop) -> None:
    """Read and write in the transaction."""
    assert_type(await shop.orders.get(event.order_id), Order | None)


@sync_handlers.before_commit(OrderPlaced)
def reserve_now(event: OrderPlaced, shop: SyncShop) -> int:
    """Read and write in the transaction."""
    assert_type(shop.orders.get(event.order_id), Order | None)
    return event.order_id


@handlers.after_commit(OrderPlaced, timeout=5)
async def confirm(event: OrderPlaced) -> None:
    """Tell somebody."""


@handlers.after_commit(OrderPlacedAbroad)
def count(event: OrderPlaced) -> str:
    """Take events of a subclass too."""
    return str(event.order_id)


class HasId(Protocol):
    """What is enough for a handler."""

    @property
    def order_id(self) -> int:
        """Return the key."""
        ...


@handlers.after_commit(OrderPlaced)
def log(event: HasId) -> None:
    """Take whatever fits."""


@handlers.after_commit(OrderPlaced)
def log_anything(event: object) -> None:
    """Take everything."""


async def decorated(event: OrderPlaced, shop: Shop, sync_shop: SyncShop) -> None:
    """A handler is still the function that it was."""
    await reserve(event, shop)
    assert_type(reserve_now(event, sync_shop), int)
    await confirm(event)
    assert_type(count(OrderPlacedAbroad(1, "fr")), str)
    await reserve("event", shop)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_handlers() -> None:
    """What the run time would trip over, the type checker refuses first."""

    def of_a_string(event: str) -> None: ...

    def of_a_subclass(event: OrderPlacedAbroad) -> None: ...

    def without_unit(event: OrderPlaced) -> None: ...

    def with_unit(event: OrderPlaced, shop: Shop) -> None: ...

    handlers.after_commit(OrderPlaced)(of_a_string)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handlers.after_commit(OrderPlaced)(of_a_subclass)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handlers.before_commit(OrderPlaced)(without_unit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handlers.after_commit(OrderPlaced)(with_unit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handlers.after_commit(OrderPlaced(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handlers.after_commit(OrderPlaced, timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handlers.after_commit(OrderPlaced, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    handlers.before_commit(OrderPlaced, timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    handlers.ignore(OrderPlaced, OrderPlacedAbroad)
    handlers.ignore(OrderPlaced(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def send() -> str:
    """Return something, awaited."""
    return "sent"


def send_now() -> str:
    """Return something."""
    return "sent"


def returns_an_awaitable() -> Awaitable[None]:
    """Return something to be awaited."""
    raise NotImplementedError


async def hooks(database: AsyncDatabase, order: Order) -> None:
    """A hook takes nothing and may return anything."""
    async with Shop(database, confirm_commit=True) as shop:
        assert_type(shop.after_commit(send), None)
        shop.after_commit(send_now, timeout=1.5)
        shop.after_commit(lambda: send())  # noqa: PLW0108 - a function that returns an awaitable
        shop.after_commit(returns_an_awaitable, timeout=None)
        shop.after_commit(order.place)
        shop.after_commit(confirm)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        shop.after_commit(send_now())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        shop.after_commit(send_now, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        shop.after_commit(send_now, timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        async with shop.savepoint() as saved:
            assert_type(saved, Shop)
        await shop.commit()
    outcomes(shop.outcome)


def sync_hooks(database: Database) -> None:
    """The same in the other colour."""
    with SyncShop(database, confirm_commit=None) as shop:
        assert_type(shop.after_commit(send_now), None)
        shop.after_commit(lambda: None, timeout=1)
        with shop.savepoint() as saved:
            assert_type(saved, SyncShop)
        shop.commit()
    outcomes(shop.outcome)


def outcomes(outcome: Outcome) -> None:
    """An outcome tells what went wrong after the commit."""
    assert_type(outcome.status, Status)
    assert_type(outcome.hook_errors, tuple[HookError, ...])
    assert_type(outcome.hook_errors[0].hook, str)
    assert_type(outcome.raise_hook_errors(), None)


def pure_domain(order: Order) -> None:
    """What was recorded can be read without a unit."""
    assert_type(recorded(order), tuple[object, ...])
    recorded(OrderPlaced(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
