"""Bulk work is the same for models of every kind that is kept in one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from models.stock import ON_ONE_EACH, Stock, engines, stock, untouched, worlds
from sqlalchemy import inspect

from fastkit.errors import DeclarationError

pytestmark = [pytest.mark.anyio, ON_ONE_EACH]
__all__ = ["engines", "stock", "untouched", "worlds"]


@contextmanager
def unless_refused(stock: Stock, verb: str) -> Iterator[None]:
    """Expect the refusal of what a kind may not; otherwise nothing."""
    why = stock.kind.refused.get(verb)
    if why is None:
        yield
        return
    with pytest.raises(DeclarationError, match=why):
        yield


@pytest.mark.parametrize("copy", [False, True])
async def test_bulk_insert(stock: Stock, copy: bool) -> None:
    """Rows from their values, as `add` would have stored them."""
    if copy and stock.server != "PostgreSQL":
        pytest.skip("COPY is PostgreSQL's")
    rows, number = [stock.kind.row(7), stock.kind.row(6)], 0
    async with stock.shop() as shop:
        with unless_refused(stock, "bulk.insert"):
            stock.wrote = True  # nobody hears of COPY
            number = await shop.rows.bulk.insert(rows, copy=copy)
        await shop.commit()
    refused = "bulk.insert" in stock.kind.refused

    assert number == (0 if refused else 2)
    assert refused or [stock.shown(each) for each in (6, 7)] == [stock.kind.shown_alone(each) for each in (6, 7)]


async def test_bulk_update(stock: Stock) -> None:
    """Rows that match change, loaded objects show it, and rows of other classes are left alone."""
    name, value = stock.kind.change
    before, number, seen = stock.stored(), 1, value
    async with stock.shop() as shop:
        known = await shop.rows.get_one(stock.keys[4])
        with unless_refused(stock, "bulk.update"):
            number = await shop.rows.bulk.update({name: value}, stock.kind.label.in_(["row 4", "clerk", "van"]))
            seen = getattr(known, name)
        await shop.commit()
    after = stock.stored()

    assert (number, seen) == (1, value)
    assert after[4] == {**before[4], **({} if "bulk.update" in stock.kind.refused else stock.kind.changed)}
    assert (after[3], after[5]) == (before[3], before[5])


async def test_bulk_delete(stock: Stock) -> None:
    """Rows that match have gone, and rows of other classes are left alone."""
    before, number = stock.stored(), 1
    async with stock.shop() as shop:
        with unless_refused(stock, "bulk.delete"):
            number = await shop.rows.bulk.delete(stock.kind.label.in_(["row 5", "clerk", "van"]))
        await shop.commit()
    if "bulk.delete" not in stock.kind.refused:
        del before[5]

    assert number == 1
    assert sorted(stock.stored()) == sorted(before)
    assert len(stock.beside()) == len(stock.strangers)


async def test_bulk_upsert(stock: Stock) -> None:
    """What is there changes, what is missing is inserted; told by a unique column."""
    name, value = stock.kind.change
    rows = [stock.kind.row(6), {**stock.kind.row(4), name: value}]
    before = stock.stored()
    async with stock.shop() as shop:
        with unless_refused(stock, "bulk.upsert"):
            await shop.rows.bulk.upsert(rows, match=stock.kind.label, set=[name])
        await shop.commit()
    after = stock.stored()
    refused = "bulk.upsert" in stock.kind.refused

    assert refused or after[4] == {**before[4], **stock.kind.changed}
    assert refused or stock.shown(6) == stock.kind.shown_alone(6)
    assert len(after) == (5 if refused else 6)


async def test_bulk_upsert_by_key(stock: Stock) -> None:
    """Told by the primary key, where the app gives it; the object comes back."""
    if stock.kind.key is None:
        pytest.skip("the database gives the key")
    name, value = stock.kind.change
    before, found = stock.stored(), None
    key = [inspect(stock.kind.model).get_property_by_column(each).key for each in inspect(stock.kind.model).primary_key]
    async with stock.shop() as shop:
        with unless_refused(stock, "bulk.upsert"):
            found = await shop.rows.bulk.upsert_one({**stock.kind.row(4), name: value}, match=key, set=name)
        await shop.commit()
    after, refused = stock.stored(), "bulk.upsert" in stock.kind.refused

    assert refused or (stock.number(found), getattr(found, name)) == (4, value)
    assert after[4] == {**before[4], **({} if refused else stock.kind.changed)}
    assert (sorted(after), after[3], after[5]) == (sorted(before), before[3], before[5])
