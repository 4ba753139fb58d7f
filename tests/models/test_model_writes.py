"""Writing objects is the same for models of every kind."""

from __future__ import annotations

import pytest
from models.stock import ON_ONE_EACH, Stock, engines, key_of, stock, untouched, worlds
from repository.scenes import recorded
from sqlalchemy import inspect

from fastkit.errors import UniqueError

pytestmark = [pytest.mark.anyio, ON_ONE_EACH]
__all__ = ["engines", "stock", "untouched", "worlds"]


async def test_add(stock: Stock) -> None:
    """The object is stored with what is related to it, and another unit finds it by its key."""
    (new,) = stock.kind.objects([6])
    async with stock.shop() as shop:
        added = shop.rows.add(new)
        await shop.commit()
        key = key_of(added)
    async with stock.shop() as shop:
        found = await shop.rows.get_one(key)

    assert added is new
    assert stock.number(found) == 6
    assert stock.kind.key is None or key == stock.kind.key(6)
    assert stock.shown(6) == stock.kind.shown(6)


async def test_columns_after_the_commit(stock: Stock) -> None:
    """The columns of what was added and changed can be looked at: nothing has to be read for that."""
    name, value = stock.kind.change
    async with stock.shop() as shop:
        (new,) = shop.rows.add_all(stock.kind.objects([6]))
        known = await shop.rows.get_one(stock.keys[4])
        setattr(known, name, value)
        await shop.commit()
        with recorded(stock) as sent:
            columns = [*inspect(stock.kind.model).column_attrs]
            looked = [{each.key: getattr(one, each.key) for each in columns} for one in (new, known)]

    assert sent == []
    assert looked[0]["label"] == "row 6"
    assert looked[1][name] == value


async def test_add_all(stock: Stock) -> None:
    """Several objects at once, with keys of their own."""
    async with stock.shop() as shop:
        added = shop.rows.add_all(stock.kind.objects([6, 7]))
        await shop.commit()
        keys = [key_of(each) for each in added]
    async with stock.shop() as shop:
        found = await shop.rows.get_many(keys[::-1])

    assert stock.numbers(found) == [7, 6]
    assert [stock.shown(number) for number in (6, 7)] == [stock.kind.shown(number) for number in (6, 7)]


async def test_change(stock: Stock) -> None:
    """What is set on a loaded object is stored, and nothing else changes."""
    name, value = stock.kind.change
    before = stock.stored()
    async with stock.shop() as shop:
        found = await shop.rows.get_one(stock.keys[4])
        setattr(found, name, value)
        await shop.commit()
    after = stock.stored()

    assert after[4] == {**before[4], **stock.kind.changed}
    assert after[4] != before[4]
    assert after[3] == before[3]


async def test_delete(stock: Stock) -> None:
    """The row has gone, with what belongs to it; the others stay."""
    async with stock.shop() as shop:
        for number in (5, 2):
            await shop.rows.delete(await shop.rows.get_one(stock.keys[number]))
        await shop.commit()
    async with stock.shop() as shop:
        left = await shop.rows.all()
        gone = await shop.rows.get(stock.keys[2])

    assert sorted(stock.numbers(left)) == [1, 3, 4]
    assert gone is None


async def test_a_label_that_exists(stock: Stock) -> None:
    """It is a `UniqueError` that names the table and the column, and the block stores nothing."""
    (new,) = stock.kind.objects([6])
    new.label = "row 1"
    async with stock.shop() as shop:
        with pytest.raises(UniqueError) as caught:
            shop.rows.add(new)
            await shop.commit()
    column = stock.kind.label.property.columns[0]

    assert (caught.value.table, caught.value.columns) == (column.table.name, (column.name,))
    assert sorted(stock.stored()) == [1, 2, 3, 4, 5]


async def test_a_row_of_a_savepoint(stock: Stock) -> None:
    """It goes with the savepoint, what was changed there is as before, and what came before it stays."""
    name, value = stock.kind.change
    async with stock.shop() as shop:
        known = await shop.rows.get_one(stock.keys[4])
        old = getattr(known, name)
        shop.rows.add_all(stock.kind.objects([6]))
        async with shop.savepoint() as savepoint:
            shop.rows.add_all(stock.kind.objects([7]))
            setattr(known, name, value)
            await shop.session.flush()
            await savepoint.rollback()
        left, seen = await shop.rows.count(), getattr(known, name)
        await shop.commit()

    assert (left, seen) == (6, old)
    assert sorted(stock.stored()) == [1, 2, 3, 4, 5, 6]


async def test_c25_writes(stock: Stock) -> None:
    """A statement for each table that holds the row, where nothing is related to it; nothing after the commit."""
    name, value = stock.kind.change
    if inspect(stock.kind.model).relationships:
        pytest.skip("related rows take statements of their own")
    async with stock.serving() as shop:
        async with shop:
            shop.rows.add_all(stock.kind.objects([6]))
            with recorded(stock) as added:
                await shop.commit()
        async with shop:
            known = await shop.rows.get_one(stock.keys[4])
            setattr(known, name, value)
            with recorded(stock) as changed:
                await shop.commit()
        async with shop:
            await shop.rows.delete(await shop.rows.get_one(stock.keys[4]))
            with recorded(stock) as deleted:
                await shop.commit()

    again = stock.server in stock.kind.read_again_on

    assert [len(added), len(changed), len(deleted)] == [1, 1 + again, 1], (added, changed, deleted)
