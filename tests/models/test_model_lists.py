"""What a client may ask of a list is the same for models of every kind."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from models.stock import ON_ONE_EACH, Stock, engines, stock, untouched, worlds
from models.test_model_reads import walked

from fastkit.repository import Between, Contains, Equals, ListQuery, OneOf, Range, Search, Sort, StartsWith
from fastkit.schemas import From

pytestmark = [pytest.mark.anyio, ON_ONE_EACH]
__all__ = ["engines", "stock", "untouched", "worlds"]


def query_of(stock: Stock) -> Any:
    """Return the class of what may be asked of the kind's list."""
    kind = stock.kind
    annotations = {"label": Equals[str], kind.rank: Range[kind.rank_type]}
    return type(
        "Query",
        (ListQuery[kind.model],),
        {
            "__annotations__": annotations,
            "__module__": __name__,
            "label": None,
            kind.rank: None,
            "sort": Sort(kind.rank, "label", default="label"),
        },
    )


async def test_filters(stock: Stock) -> None:
    """By equality and by ranges, joined by AND, of objects and of response models."""
    query, rank = query_of(stock), stock.kind.rank
    most, least = stock.kind.ranked(3), stock.kind.ranked(1)
    async with stock.serving() as shop:
        rows, read = shop.rows, shop.rows.into(stock.kind.out)
        equal = await rows.page(query(label="row 3"))
        below = await read.page(query(**{rank: Between(max=most)}))
        above = await rows.page(query(**{rank: Between(min=least)}))
        both = await read.page(query(label="row 4", **{rank: Between(min=least)}))

    assert stock.numbers(equal.items) == [3]
    assert (stock.numbers(below.items), below.total) == ([2, 3, 4], 3)
    assert stock.numbers(above.items) == [1, 5]
    assert (both.items, both.total) == ([], 0)


async def test_order_and_pages(stock: Stock) -> None:
    """In the order that the client asks for, equal rows by the key, a page at a time or a window."""
    query, rank = query_of(stock), stock.kind.rank
    async with stock.serving() as shop:
        rows = shop.rows.into(stock.kind.out)
        pages = [await rows.page(query(page=page, size=2, sort=rank)) for page in (1, 2, 3)]
        down = await rows.page(query(sort=f"-{rank},-label"))
        there, back = await walked(rows, lambda **more: query(sort=rank, **more), 2)
        labels = await shop.rows.page(query())

    assert stock.numbers([each for page in pages for each in page.items]) == stock.in_order()
    assert stock.numbers(down.items) == [5, 1, 3, 4, 2]
    assert stock.numbers(there) == stock.numbers(back)[::-1] == stock.in_order()
    assert stock.numbers(labels.items) == [1, 2, 3, 4, 5]


async def test_texts(stock: Stock) -> None:
    """By one of several values, by a part of a text, by a search, by the beginning."""
    query = type(
        "Texts",
        (ListQuery[stock.kind.model],),
        {
            "__annotations__": {
                "label": OneOf[str],
                "part": Annotated[Contains[str], From("label")],
                "start": Annotated[StartsWith[str], From("label")],
                "q": Annotated[str | None, Search("label")],
            },
            "__module__": __name__,
            **dict.fromkeys(("label", "part", "start", "q")),
        },
    )
    asked = [{"label": ["row 4", "row 2"]}, {"part": "W 3"}, {"start": "row"}, {"start": "ow"}, {"q": "5"}]
    async with stock.serving() as shop:
        found = [await shop.rows.into(stock.kind.out).page(query(**each)) for each in asked]

    assert [sorted(stock.numbers(page.items)) for page in found] == [[2, 4], [3], [1, 2, 3, 4, 5], [], [5]]
