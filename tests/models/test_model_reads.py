"""Reading objects is the same for models of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from models.stock import ON_ONE_EACH, Stock, engines, rival, stock, untouched, worlds
from repository.scenes import recorded
from sqlalchemy import inspect

from fastkit.errors import MultipleFoundError, NotFoundError
from fastkit.pages import PageQuery, WindowQuery

pytestmark = [pytest.mark.anyio, ON_ONE_EACH]
__all__ = ["engines", "stock", "untouched", "worlds"]


async def walked(reads: Any, query: Any, size: int) -> tuple[list[Any], list[Any]]:
    """Return what windows of a size meet on the way to the end, and on the way back."""
    there, back = [], []
    window = await reads.window(query(size=size))
    there += window.items
    while window.next_cursor:
        window = await reads.window(query(size=size, cursor=window.next_cursor))
        there += window.items
    back += window.items[::-1]
    while window.previous_cursor:
        window = await reads.window(query(size=size, cursor=window.previous_cursor))
        back += window.items[::-1]
    return there, back


async def test_get(stock: Stock) -> None:
    """The object with the key, always the same one; None for a key that no row has."""
    async with stock.serving() as shop:
        found = [await shop.rows.get(stock.keys[number]) for number in (3, 1)]
        again = await shop.rows.get_one(stock.keys[3])
        missing = await shop.rows.get(stock.kind.missing)

    assert stock.numbers(found) == [3, 1]
    assert again is found[0]
    assert missing is None


async def test_get_one_of_what_is_missing(stock: Stock) -> None:
    """It is an error that names the model and the key."""
    async with stock.shop() as shop:
        with pytest.raises(NotFoundError) as caught:
            await shop.rows.get_one(stock.kind.missing)

    assert (caught.value.model, caught.value.identity) == (stock.kind.model.__name__, stock.kind.missing)


async def test_get_many(stock: Stock) -> None:
    """In the order of the keys, without those that no row has."""
    keys = [stock.keys[4], stock.kind.missing, stock.keys[1], stock.keys[5], stock.keys[4]]
    async with stock.shop() as shop:
        found = await shop.rows.get_many(keys)

    assert stock.numbers(found) == [4, 1, 5, 4]


async def test_one_first_and_all(stock: Stock) -> None:
    """By criteria about the class, in the order of the key if no other is asked for."""
    label = stock.kind.label
    async with stock.serving() as shop:
        only = await shop.rows.one(label == "row 3")
        first = await shop.rows.first()
        none = await shop.rows.first(label == "row 9")
        some = await shop.rows.all(label.in_(["row 2", "row 4"]))
        with pytest.raises(MultipleFoundError):
            await shop.rows.one(stock.kind.ranks == stock.kind.ranked(1))
        with pytest.raises(NotFoundError):
            await shop.rows.one(label == "row 9")

    assert stock.numbers([only, first]) == [3, stock.by_key()[0]]
    assert none is None
    assert sorted(stock.numbers(some)) == [2, 4]


async def test_rows_that_are_of_another_class(stock: Stock) -> None:
    """They are neither met nor counted."""
    async with stock.serving() as shop:
        found = await shop.rows.all()
        count = await shop.rows.count()
        ranked = await shop.rows.count(stock.kind.ranks == stock.kind.ranked(3))
        exists = [await shop.rows.exists(stock.kind.label == label) for label in ("row 5", "nobody", "nothing")]

    assert sorted(stock.numbers(found)) == [1, 2, 3, 4, 5]
    assert (count, ranked) == (5, 1)
    assert exists == [True, False, False]


async def test_keys_that_are_of_another_class(stock: Stock) -> None:
    """They are those of no row, also while the session holds the object of the other class."""
    asked = [*stock.strangers, stock.keys[2]]
    async with stock.shop() as shop:
        found = [await shop.rows.get(key) for key in asked]
        locked = [await shop.rows.for_update().get(key) for key in asked]
        many = await shop.rows.get_many(asked)
        kept = [await shop.session.get(inspect(stock.kind.model).base_mapper.class_, key) for key in asked]
        again = [await shop.rows.get(key) for key in asked]
        await shop.rollback()

    assert [each for each in found if each] == [each for each in locked if each] == many == [found[-1]]
    assert [each for each in again if each] == many
    assert len([each for each in kept if each]) == len(asked)


async def test_order(stock: Stock) -> None:
    """By an attribute, up and down; equal rows by the key."""
    async with stock.serving() as shop:
        up = await shop.rows.order_by(stock.kind.ranks).all()
        down = await shop.rows.order_by(stock.kind.ranks.desc()).first()

    assert stock.numbers(up) == stock.in_order()
    assert stock.number(down) == stock.in_order([1, 5])[0]


async def test_pages(stock: Stock) -> None:
    """Pages and slices show each row once, in the order that was asked for, with the right total."""
    async with stock.serving() as shop:
        rows = shop.rows.order_by(stock.kind.ranks)
        pages = [await rows.page(PageQuery(page=page, size=2)) for page in (1, 2, 3)]
        slices = [await rows.slice(PageQuery(page=page, size=2)) for page in (1, 2, 3)]

    assert stock.numbers([each for page in pages for each in page.items]) == stock.in_order()
    assert [page.total for page in pages] == [5, 5, 5]
    assert stock.numbers([each for page in slices for each in page.items]) == stock.in_order()
    assert [page.has_more for page in slices] == [True, True, False]


async def test_windows(stock: Stock) -> None:
    """A walk by cursors meets each row once, and so does the way back."""
    async with stock.serving() as shop:
        ranked = await walked(shop.rows.order_by(stock.kind.ranks), WindowQuery, 2)
        keyed = await walked(shop.rows, WindowQuery, 2)

    assert stock.numbers(ranked[0]) == stock.numbers(ranked[1])[::-1] == stock.in_order()
    assert stock.numbers(keyed[0]) == stock.numbers(keyed[1])[::-1] == stock.by_key()


async def test_streams(stock: Stock) -> None:
    """Each row once, in order, whatever the size of the batches."""
    async with stock.serving() as shop:
        by_key = [each async for each in streamed(shop.rows.stream(batch=2))]
        ranked = [each async for each in streamed(shop.rows.order_by(stock.kind.ranks).stream(batch=2))]

    assert stock.numbers(by_key) == stock.by_key()
    assert stock.numbers(ranked) == stock.in_order()


async def streamed(stream: Any) -> Any:
    """Yield what a stream of either colour gives."""
    if hasattr(stream, "__aiter__"):
        async for each in stream:
            yield each
    else:
        for each in stream:
            yield each


async def test_locks(stock: Stock) -> None:
    """Rows are locked and read afresh, by key and by criteria."""
    async with stock.shop() as shop:
        before = await shop.rows.get_one(stock.keys[4])
        with recorded(stock) as sent:
            locked = await shop.rows.for_update().get_one(stock.keys[4])
            others = await shop.rows.for_update().all(stock.kind.label != "row 4")
        await shop.rollback()
    locking = [statement for statement in sent if "FOR UPDATE" in statement]

    assert locked is before
    assert sorted(stock.numbers(others)) == [1, 2, 3, 5]
    assert len(locking) == (0 if stock.server == "SQLite" else 2)


async def test_what_was_read_before_a_block(stock: Stock) -> None:
    """A block shows what somebody else has stored since, whichever verb reads the object."""
    name, value = stock.kind.change
    async with stock.serving() as shop:
        known = [await shop.rows.get_one(stock.keys[number]) for number in (1, 4)]
        with rival(stock) as other:
            setattr(other.get_one(stock.kind.model, stock.keys[4]), name, value)
        old = getattr(known[1], name)
        async with shop:
            found = await shop.rows.get_one(stock.keys[4])
            new = getattr(found, name)
            await shop.rollback()

    assert found is known[1]
    assert old != new
    assert new == value


async def test_loader_options(stock: Stock) -> None:
    """An object with what its options load is all that its response model shows."""
    async with stock.serving() as shop:
        found = await shop.rows.with_options(*stock.kind.loads).order_by(stock.kind.ranks).all()
    shown = [stock.kind.out.model_validate(each, from_attributes=True) for each in found]

    assert [stock.seen(each, stock.number(each)) for each in shown] == [stock.kind.shown(n) for n in stock.in_order()]


async def test_c25_reads(stock: Stock) -> None:
    """One statement for each read, two for a page that is counted, none for what the block has read."""
    if not stock.kind.is_read_at_once:
        pytest.skip("each list takes a statement more for each class of its rows")
    async with stock.shop() as shop:
        rows = shop.rows
        with recorded(stock) as sent:
            found = await rows.get_one(stock.keys[2])
            await rows.get(stock.keys[2])
        with recorded(stock) as others:
            await rows.exists(stock.kind.label == "row 1")
            await rows.page(PageQuery(size=2))
            await rows.slice(PageQuery(size=2))
            await rows.window(WindowQuery(size=2))

    assert stock.number(found) == 2
    assert (len(sent), len(others)) == (1, 5)
