"""What is told about models of some kinds, and what is promised of them alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from models.columns import Draft
from models.found import Hero, HeroOut, Team
from models.inheriting import JOINED_WITH_CHILDREN, Engineer, Person
from models.kinds import Base
from models.stock import ON_ONE_EACH, Stock, engines, stock, untouched, worlds
from models.test_model_reads import streamed
from repository.scenes import ON_SQLITE, meanwhile, recorded
from sqlalchemy.orm import registry, selectin_polymorphic

from fastkit.errors import DeclarationError
from fastkit.pages import PageQuery, WindowQuery
from fastkit.repository import AsyncRepository, Repository

pytestmark = pytest.mark.anyio
__all__ = ["engines", "stock", "untouched", "worlds"]

WITH_CHILDREN = pytest.mark.parametrize("stock", [JOINED_WITH_CHILDREN.name], indirect=True)
WITH_SQLMODEL = pytest.mark.parametrize("stock", ["SQLModel table"], indirect=True)


class Sketch:
    """A row of drafts, mapped without a word about what the database makes of it."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.rank = 1


registry(metadata=Base.metadata).map_imperatively(Sketch, Draft.__table__)


async def _streamed(rows: Any) -> list[Any]:
    return [each async for each in streamed(rows.stream())]


async def _one(found: Any) -> list[Any]:
    return [await found]


@WITH_CHILDREN
@ON_ONE_EACH
@pytest.mark.parametrize(
    "read",
    [
        lambda rows: rows.all(),
        lambda rows: rows.get_many([1, 2]),
        lambda rows: _one(rows.get_one(1)),
        lambda rows: _one(rows.first()),
        lambda rows: rows.page(PageQuery()),
        lambda rows: rows.slice(PageQuery()),
        lambda rows: rows.window(WindowQuery()),
        _streamed,
    ],
    ids=["all", "get_many", "get_one", "first", "page", "slice", "window", "stream"],
)
async def test_c5_children_that_are_loaded_with_their_base(stock: Stock, read: Callable[[Any], Any]) -> None:
    """Outside a block both statements see one moment, and no column of the child is left to be loaded."""
    wolves: Any = JOINED_WITH_CHILDREN.tables[1]

    def change(other: Any) -> None:
        other.execute(wolves.update().values(howl="changed"))

    with meanwhile(stock, "FROM kd_beast", change) as done:
        async with stock.serving() as shop:
            found = await read(shop.rows)
    stock.wrote = True  # somebody else
    first = next(each for each in getattr(found, "items", found) if stock.number(each) == 1)

    assert done
    assert first.howl == "howl 1"


@pytest.mark.parametrize("stock", ["joined base"], indirect=True)
@ON_ONE_EACH
async def test_children_that_an_option_loads(stock: Stock) -> None:
    """Their columns can be looked at, without a statement."""
    async with stock.serving() as shop:
        found = await shop.rows.with_options(selectin_polymorphic(Person, [Engineer])).order_by(Person.id).all()
        with recorded(stock) as sent:
            skills = [getattr(each, "skill", None) for each in found]

    assert skills == ["skill 1", None, "skill 3", None, "skill 5"]
    assert sent == []


@pytest.mark.parametrize("stock", ["server defaults"], indirect=True)
@ON_ONE_EACH
async def test_what_the_database_makes_of_a_new_row(stock: Stock) -> None:
    """It is read back by the INSERT, also where the mapper was told nothing of it."""
    repository: Any = AsyncRepository if stock.driver.is_async else Repository
    async with stock.shop() as shop:
        drafts = repository(getattr(shop.session, "naked", shop.session), Sketch)
        with recorded(stock) as sent:
            made = drafts.add(Sketch(label="row 6"))
            await shop.commit()
            seen = (made.state, made.doubled, made.made_at is None)

    assert seen == ("new", 14, False)
    assert len(sent) == 1


@ON_SQLITE
async def test_the_index_that_a_window_wants(stock: Stock) -> None:
    """It is written with attributes of the class, so it can be copied into the model."""
    async with stock.serving() as shop:
        told = shop.rows.order_by(stock.kind.ranks).into(stock.kind.out).explain()
    found = re.search(r"does not have: (Index\(.*\))\.", told)
    made: Any = {"Index": lambda name, *keys: keys, stock.kind.model.__name__: stock.kind.model}
    keys = eval(found[1], made) if found else ()

    assert bool(found) is (stock.kind.name not in {"hybrid properties", "joined child"})
    assert not found or keys[0] is stock.kind.ranks
    assert all(hasattr(each, "property") for each in keys)


@WITH_SQLMODEL
@ON_ONE_EACH
class TestTablesOfSQLModel:
    """A class that is a table is no response model, though it is one of Pydantic."""

    async def test_as_a_response_model(self, stock: Stock) -> None:
        """Refused: its values would not be looked at, and it would not be the object of the session."""
        async with stock.serving() as shop:
            with pytest.raises(DeclarationError, match=r"^Hero is a mapped class.* without table=True"):
                shop.rows.into(Hero)

    async def test_in_a_response_model(self, stock: Stock) -> None:
        """The same."""

        class WithTable(HeroOut):
            team: Team | None

        async with stock.serving() as shop:
            with pytest.raises(DeclarationError, match=r"^Team is a mapped class"):
                shop.rows.into(WithTable)

    async def test_as_what_rows_are_validated_by(self, stock: Stock) -> None:
        """Refused, because nothing would be validated."""
        async with stock.shop() as shop:
            with pytest.raises(DeclarationError, match=r"^validate=Hero: of a mapped class"):
                await shop.rows.bulk.insert([{"label": "x", "rank": "no number"}], validate=Hero)
            await shop.rollback()

    async def test_as_a_row(self, stock: Stock) -> None:
        """An object of it is a row with its values; a key that it has not yet is given by the database."""
        async with stock.shop() as shop:
            made = await shop.rows.into(HeroOut).insert(Hero(label="row 6", rank=2))
            number = await shop.rows.bulk.insert([Hero(label="row 7", rank=1)])
            await shop.commit()

        assert (stock.number(made), number) == (6, 1)
        assert sorted(stock.stored()) == [1, 2, 3, 4, 5, 6, 7]
