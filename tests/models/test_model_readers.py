"""Response models are read in the same way from models of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from models.stock import ON_ONE_EACH, Stock, engines, stock, untouched, worlds
from models.test_model_reads import streamed, walked
from pydantic import TypeAdapter
from repository.scenes import recorded

from fastkit.errors import DeclarationError, NotFoundError
from fastkit.pages import Page, PageQuery, Slice, WindowQuery

pytestmark = [pytest.mark.anyio, ON_ONE_EACH]
__all__ = ["engines", "stock", "untouched", "worlds"]


async def test_rows_as_response_models(stock: Stock) -> None:
    """They are what the objects say with all that is related to them, and what was stored."""
    out = stock.kind.out
    async with stock.serving() as shop:
        rows = shop.rows.order_by(stock.kind.ranks)
        read = await rows.into(out).all()
        objects = await rows.with_options(*stock.kind.loads).all()
    said = [out.model_validate(each, from_attributes=True) for each in objects]

    assert read == said
    assert [stock.seen(each, stock.number(each)) for each in read] == [stock.kind.shown(n) for n in stock.in_order()]


async def test_a_row_as_a_response_model(stock: Stock) -> None:
    """By its key, by criteria, first in order; of a key that no row has there is none."""
    label = stock.kind.label
    async with stock.serving() as shop:
        rows = shop.rows.into(stock.kind.out)
        found = [
            await rows.get(stock.keys[3]),
            await rows.get_one(stock.keys[4]),
            await rows.one(label == "row 5"),
            await rows.first(label != "row 9"),
        ]
        missing = [await rows.get(key) for key in (stock.kind.missing, *stock.strangers)]
        with pytest.raises(NotFoundError):
            await rows.get_one(stock.kind.missing)
        counted = [await rows.count(), await rows.exists(label == "row 3"), await rows.exists(label == "row 9")]
    numbers = [3, 4, 5, stock.by_key()[0]]

    assert [stock.seen(each, number) for each, number in zip(found, numbers, strict=True)] == [
        stock.kind.shown(number) for number in numbers
    ]
    assert not any(missing)
    assert counted == [5, True, False]


async def test_parts_of_a_list(stock: Stock) -> None:
    """Pages, slices, windows and streams show each row once, with all that belongs to it."""
    async with stock.serving() as shop:
        rows = shop.rows.order_by(stock.kind.ranks).into(stock.kind.out)
        everything = await rows.all()
        pages = [await rows.page(PageQuery(page=page, size=2)) for page in (1, 2, 3)]
        slices = [await rows.slice(PageQuery(page=page, size=2)) for page in (1, 2, 3)]
        there, back = await walked(rows, WindowQuery, 2)
        streamed_rows = [each async for each in streamed(rows.stream(batch=2))]

    assert stock.numbers(everything) == stock.in_order()
    assert [each for page in pages for each in page.items] == everything
    assert {page.total for page in pages} == {5}
    assert [each for page in slices for each in page.items] == everything
    assert there == back[::-1] == streamed_rows == everything


async def test_pages_in_the_order_of_the_key(stock: Stock) -> None:
    """Without an order of its own a list is in that of the key."""
    async with stock.serving() as shop:
        rows = shop.rows.into(stock.kind.out)
        pages = [await rows.page(PageQuery(page=page, size=2)) for page in (1, 2, 3)]
        there, _ = await walked(rows, WindowQuery, 2)

    assert stock.numbers([each for page in pages for each in page.items]) == stock.by_key()
    assert stock.numbers(there) == stock.by_key()


async def test_json(stock: Stock) -> None:
    """The bytes are those of the response models."""
    out: Any = stock.kind.out
    query = PageQuery(page=2, size=2)
    async with stock.serving() as shop:
        rows = shop.rows.order_by(stock.kind.ranks).into(out)
        whole, one = await rows.json().all(), await rows.json().get_one(stock.keys[2])
        page, part = await rows.json().page(query), await rows.json().slice(query)
        lines = b"".join([each async for each in streamed(rows.json().stream(batch=2))])
        expected = [
            await rows.all(),
            await rows.get_one(stock.keys[2]),
            await rows.page(query),
            await rows.slice(query),
        ]
    kinds = (list[out], out, Page[out], Slice[out])

    assert [whole, one, page, part] == [
        TypeAdapter(kind).dump_json(TypeAdapter(kind).validate_python(each), by_alias=True)
        for kind, each in zip(kinds, expected, strict=True)
    ]
    assert lines == b"".join(each.model_dump_json(by_alias=True).encode() + b"\n" for each in expected[0])


async def test_insert(stock: Stock) -> None:
    """One row from its values, shown as the response model, and stored as `add` would have; or a clear refusal."""
    async with stock.shop() as shop:
        rows = shop.rows.into(stock.kind.out)
        if why := stock.kind.refused.get("insert"):
            with pytest.raises(DeclarationError, match=why):
                await rows.insert(stock.kind.row(6))
            return
        with recorded(stock) as sent:
            made = await rows.insert(stock.kind.row(6))
        await shop.commit()

    assert stock.seen(made, 6) == stock.shown(6) == stock.kind.shown_alone(6)
    assert (len(sent) == 1) is stock.kind.is_returned_by_insert


async def test_statements(stock: Stock) -> None:
    """As many for one row as for all of them."""
    async with stock.serving() as shop:
        rows = shop.rows.into(stock.kind.out)
        with recorded(stock) as for_one:
            await rows.get_one(stock.keys[5])
        with recorded(stock) as for_all:
            await rows.all()

    assert 1 <= len(for_one) == len(for_all) <= 3
