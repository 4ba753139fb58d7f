"""`get_many`: objects by many primary keys, in the order of the keys."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from conftest import World
from repository.bulk_models import Stock, Thing, kinds, of, row
from repository.scenes import PLACES, recorded, scene
from sqlalchemy import BigInteger, Column, Integer, String, TypeDecorator, Uuid
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import selectinload

from bookshop.models import Book
from fastkit.database import _keys, among
from fastkit.errors import InvalidValueError, OutsideBlockError

pytestmark = pytest.mark.anyio
__all__ = ["kinds"]


@pytest.mark.parametrize("place", PLACES)
async def test_order_and_what_is_missing(stocked: World, place: str) -> None:
    """In the order asked, twice what is asked for twice, nothing for what is not there."""
    async with scene(stocked, place) as each:
        with recorded(stocked) as sent:
            found = await each.shop.books.get_many([2, 99, None, 1, 2])
        none = await each.shop.books.get_many([])
        assert each.settled

    assert [one.id for one in found] == [2, 1, 2]
    assert found[0] is found[2]
    assert none == []
    assert len(sent) == 1


async def test_seventy_thousand_keys(stocked: World) -> None:
    """More than any driver takes in one statement."""
    async with stocked.shop() as shop:
        await shop.books.bulk.insert(row(number) for number in range(20))
        keys = [one.id for one in await shop.books.order_by(Book.sku).all()]
        asked: list[Any] = [*range(10**9, 10**9 + 70_000)]
        asked[::4000] = (keys * 2)[: len(asked[::4000])]
        with recorded(stocked) as sent:
            found = await shop.books.get_many(asked)
        await shop.rollback()

    assert [one.id for one in found] == [key for key in asked if key < 10**9]
    assert len(sent) == 14


async def test_keys_of_several_columns(kinds: World) -> None:
    """Tuples, and mappings."""
    async with kinds.shop() as shop:
        stocks = of(shop, Stock)
        await stocks.bulk.insert({"place": n, "part": p} for n in range(3000) for p in "ab")
        found = await stocks.get_many([(2999, "b"), (0, "c"), {"place": 0, "part": "a"}, (2, "a")])
        many = await stocks.get_many([(n, "b") for n in range(3000)])
        with pytest.raises(InvalidRequestError, match="give as many values"):
            await stocks.get_many([(1, "a"), 2])
        await shop.rollback()

    assert [(each.place, each.part) for each in found] == [(2999, "b"), (0, "a"), (2, "a")]
    assert [each.place for each in many] == list(range(3000))


async def test_keys_of_other_types(kinds: World) -> None:
    """What the database takes for the same key is found, as by `get`."""
    key = uuid.uuid4()
    async with kinds.shop() as shop:
        await of(shop, Thing).bulk.insert([{"id": key, "label": "x"}])
        assert [each.id for each in await of(shop, Thing).get_many([uuid.uuid4(), key])] == [key]
        await shop.rollback()


async def test_views(stocked: World) -> None:
    """Options and locks are those of the view; the order is that of the keys, but of locks that of the primary key."""
    async with stocked.shop() as shop:
        books = shop.books.with_options(selectinload(Book.reviews)).order_by(Book.title)
        found = await books.get_many([2, 1])
        assert [each.reviews for each in found] == [[], []]
        with recorded(stocked) as sent:
            locked = await shop.books.for_update().get_many([2, 1])
        await shop.rollback()
    async with stocked.serving() as shop:
        with pytest.raises(OutsideBlockError):
            await shop.books.for_update().get_many([1])
        with pytest.raises(OutsideBlockError):
            await shop.books.for_update().get_many([])

    assert [each.id for each in found] == [each.id for each in locked] == [2, 1]
    assert "ORDER BY book.id" in sent[0]
    assert ("FOR UPDATE" in sent[0]) is (stocked.server != "SQLite")


async def test_a_key_as_text(stocked: World) -> None:
    """SQLite and MariaDB take it for a number, and so does `get`."""
    if stocked.server == "PostgreSQL":
        pytest.skip("it does not")
    async with stocked.serving() as shop:
        assert [each.id for each in await shop.books.get_many(["2", 1])] == [2, 1]


async def test_keys_of_several_types_at_once(kinds: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver takes in a list of parameters is found, and what it refuses is refused, as without arrays."""
    first, second = uuid.uuid4(), uuid.uuid4()
    asked = [[first, str(second)], [str(first), str(second)], [first, second, None], [first.bytes, second]]
    told = []
    for plain in ((), _keys._PLAIN):
        monkeypatch.setattr(_keys, "_PLAIN", plain)
        for keys in asked:
            async with kinds.shop() as shop:
                things = of(shop, Thing)
                await things.bulk.insert([{"id": first, "label": "x"}, {"id": second, "label": "y"}])
                try:
                    told.append([each.label for each in await things.get_many(keys)])
                except Exception as error:
                    told.append(type(error))
                await shop.rollback()
    assert told[: len(asked)] == told[len(asked) :]
    assert told[2] == ["x", "y"]


async def test_one_text_for_any_number_of_keys(stocked: World) -> None:
    """PostgreSQL is told them as one array, so that it prepares one statement; the others one for each number."""
    async with stocked.shop() as shop:
        await shop.books.bulk.insert(row(number) for number in range(20))
        keys = [one.id for one in await shop.books.all()]
        with recorded(stocked) as sent:
            for number in (2, 5, 9):
                await of(shop, Book).get_many(keys[:number])
        await shop.rollback()

    assert len(sent) == 3
    assert len(set(sent)) == (1 if stocked.server == "PostgreSQL" else 3)


async def test_keys_that_no_column_holds(stocked: World) -> None:
    """A number that is too great for the column is refused where `get` refuses it, and nowhere else."""
    for keys in ([1, 2**40], [1, 2**70]):
        told = []
        for read in ("get_many", "get"):
            async with stocked.serving() as shop:
                try:
                    await (shop.books.get_many(keys) if read == "get_many" else shop.books.get(keys[-1]))
                    told.append("read")
                except InvalidValueError:
                    told.append("refused")
        assert told[0] == told[1]


def test_what_is_told_as_an_array() -> None:
    """Numbers and UUIDs, of which an array is compared as each of its values; nothing else, and nowhere else."""
    told = {
        "number": Column("k", BigInteger),
        "uuid": Column("k", Uuid),
        "text": Column("k", String),
        "own": Column("k", _Own),
    }
    on = {name: str(among([column], "keys").compile(dialect=postgresql.dialect())) for name, column in told.items()}
    assert {name for name, text in on.items() if "= ANY" in text} == {"number", "uuid"}
    assert "IN" in str(among([told["number"]], "keys").compile(dialect=sqlite.dialect()))
    assert " IN " in str(among([*told.values()][:2], "keys").compile(dialect=postgresql.dialect()))


class _Own(TypeDecorator[int]):
    impl = Integer
    cache_ok = True
