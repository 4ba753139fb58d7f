"""`bulk.update` and `bulk.delete`: all rows that match, and what is loaded shows it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from conftest import World
from repository.bulk_models import Checked, Heard, Stock, Tag, Thing, Truck, Vehicle, Wheel, kinds, of, row
from repository.scenes import ON_SQLITE, recorded, rival, sync_session
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import aliased, undefer

from bookshop.models import Author, Book
from fastkit.errors import CheckError, DeclarationError, OutsideBlockError, ReadOnlyError

pytestmark = pytest.mark.anyio
__all__ = ["kinds"]


async def filled(world: World, number: int = 10) -> None:
    """Store so many books more, whose stock is their number."""
    async with world.shop() as shop:
        await shop.books.bulk.insert([row(each, stock=each) for each in range(number)])
        await shop.commit()


class TestUpdate:
    """What changes."""

    async def test_rows_that_match_are_counted(self, stocked: World) -> None:
        """Whether they differ or not, on each database."""
        await filled(stocked)
        async with stocked.shop() as shop:
            with recorded(stocked) as sent:
                assert await shop.books.bulk.update({"stock": 0}, Book.stock < 3, Book.sku.like("s%")) == 3
                assert await shop.books.bulk.update({"stock": 0}, Book.stock == 0) == 3
                assert await shop.books.bulk.update({"stock": 1}, Book.stock > 1000) == 0
            assert (
                await shop.books.bulk.update(
                    {"price": Book.price * 2, "title": func.upper(Book.title)}, everything=True
                )
                == 12
            )
            await shop.commit()
        async with stocked.shop() as shop:
            assert await shop.books.count(Book.stock == 0) == 3
            assert await shop.books.count(Book.price == 20) == 12
            assert await shop.books.exists(Book.title == "EMMA")

        assert len(sent) == 3

    async def test_what_is_loaded_shows_it(self, stocked: World) -> None:
        """Columns are read again, where the database computed them as well; what is pending goes first."""
        async with stocked.shop() as shop:
            emma, persuasion = await shop.books.get_many([1, 2])
            emma.title = "EMMA!"
            with recorded(stocked) as sent:
                assert await shop.books.bulk.update({"price": Book.price + Decimal("0.5")}, Book.title == "EMMA!") == 1
            assert [statement.split()[0] for statement in sent] == ["UPDATE", "UPDATE", "SELECT"]
            assert (emma.price, emma.title, persuasion.price) == (Decimal("10.50"), "EMMA!", Decimal(10))
            assert emma.stock == 5
            await shop.commit()

        assert emma.price == Decimal("10.50")

    async def test_versions_and_what_a_change_writes(self, kinds: World) -> None:
        """The version counts up, so that whoever read the row before is told; `onupdate` is written."""
        async with kinds.shop() as shop:
            things = of(shop, Thing)
            await things.bulk.insert([{"label": "a"}, {"label": "b"}])
            loaded = await things.one(Thing.label == "a")
            assert await things.bulk.update({"shout": "NEW", "data": None}, Thing.label == "a") == 1
            other = await things.one(Thing.label == "b")
            assert (loaded.version, loaded.shout, loaded.told, loaded.data) == (2, "NEW", "changed", None)
            assert isinstance(loaded.tick, int)
            assert (other.version, other.told, other.tick) == (1, None, None)
            assert await things.bulk.update({"version": 7}, Thing.label == "b") == 1
            assert other.version == 7  # given, it is what is stored
            loaded.shout = "AGAIN"  # the session knows the new version
            await shop.commit()

        assert loaded.version == 3

    async def test_a_version_that_is_no_number(self, kinds: World) -> None:
        """It is made anew, as with objects."""
        async with kinds.shop() as shop:
            await of(shop, Tag).bulk.insert([{"name": "A"}])
            loaded = await of(shop, Tag).one()
            before = loaded.token
            await of(shop, Tag).bulk.update({"loud": "x"}, everything=True)
            assert (len(loaded.token), loaded.token == before, loaded.loud) == (32, False, "X")
            loaded.loud = "y"  # the session knows the new version
            await shop.commit()

    async def test_a_deferred_column_that_is_loaded(self, kinds: World) -> None:
        """It shows what was written, as the others do."""
        async with kinds.shop() as shop:
            await of(shop, Tag).bulk.insert([{"name": "A", "secret": "old"}])
            loaded = await of(shop, Tag).with_options(undefer(Tag.secret)).one()
            await of(shop, Tag).bulk.update({"secret": "new"}, everything=True)
            assert loaded.secret == "new"
            await shop.rollback()

    async def test_a_class_of_a_table_of_several(self, kinds: World) -> None:
        """The rows of other classes are left alone."""
        async with kinds.shop() as shop:
            await of(shop, Vehicle).bulk.insert([{"name": "v"}])
            await of(shop, Truck).bulk.insert([{"name": "t", "load": 1}])
            truck = await of(shop, Truck).one()
            assert await of(shop, Truck).bulk.update({"name": "x"}, everything=True) == 1
            assert await of(shop, Vehicle).bulk.update({"name": "y"}, Vehicle.name == "x") == 1
            assert truck.name == "y"
            with pytest.raises(DeclarationError, match=r"Truck\.kind tells which row it is"):
                await of(shop, Truck).bulk.update({"kind": "vehicle"}, everything=True)
            assert await of(shop, Truck).bulk.delete(everything=True) == 1
            assert await of(shop, Vehicle).count() == 1
            await shop.rollback()

    async def test_related_rows(self, stocked: World) -> None:
        """They are asked for by subqueries."""
        async with stocked.shop() as shop:
            assert await shop.books.bulk.update({"stock": 1}, Book.author.has(Author.name.like("Jane%"))) == 2
            ours = select(Author.id).where(Author.name == "nobody")
            assert await shop.books.bulk.update({"stock": 1}, Book.author_id.in_(ours)) == 0
            named = select(func.upper(Author.name)).where(Author.id == Book.author_id).scalar_subquery()
            assert await shop.books.bulk.update({"title": named}, Book.id == 1) == 1
            assert (await shop.books.get_one(1)).title == "JANE AUSTEN"
            await shop.rollback()

    async def test_a_constraint(self, stocked: World) -> None:
        """It has the error that it has everywhere, and nothing is stored."""
        with pytest.raises(CheckError):
            async with stocked.shop() as shop:
                await shop.books.bulk.update({"stock": Book.stock - 6}, everything=True)


class TestDelete:
    """What goes."""

    async def test_rows(self, stocked: World) -> None:
        """They are counted, and loaded ones leave the session."""
        await filled(stocked)
        async with stocked.shop() as shop:
            emma, persuasion = await shop.books.get_many([1, 2])
            assert await shop.books.bulk.delete(Book.title == "Emma") == 1
            assert emma not in sync_session(shop)
            assert persuasion in sync_session(shop)
            assert await shop.books.get(1) is None
            assert await shop.books.bulk.delete(Book.stock >= 0, Book.sku.like("s%"), Book.stock < 4) == 4
            assert await shop.books.bulk.delete(everything=True) == 7
            assert persuasion not in sync_session(shop)
            await shop.commit()
        async with stocked.shop() as shop:
            assert await shop.books.count() == 0

    async def test_a_rollback_brings_them_back(self, stocked: World) -> None:
        """They can be read again."""
        async with stocked.shop() as shop:
            loaded = await shop.books.get_one(1)
            with pytest.raises(ZeroDivisionError):
                async with shop.savepoint():
                    await shop.books.bulk.delete(everything=True)
                    raise ZeroDivisionError
            again = await shop.books.get_one(1)
            assert again.title == loaded.title == "Emma"
            again.title = "New"
            await shop.commit()
        async with stocked.shop() as shop:
            assert (await shop.books.get_one(1)).title == "New"

    async def test_keys_of_two_columns(self, kinds: World) -> None:
        """Loaded objects are found by them."""
        async with kinds.shop() as shop:
            stocks = of(shop, Stock)
            await stocks.bulk.insert({"place": n, "part": p} for n in range(700) for p in "ab")
            loaded = await stocks.all()
            assert await stocks.bulk.update({"pieces": Stock.place}, Stock.part == "b") == 700
            assert all(each.pieces == (each.place if each.part == "b" else 0) for each in loaded)
            assert await stocks.bulk.delete(Stock.place >= 600) == 200
            assert sum(each in sync_session(shop) for each in loaded) == 1200
            await shop.rollback()


@ON_SQLITE
class TestRefused:
    """What is told before anything is sent."""

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"titel": "x"}, r"Book has no attribute 'titel'; did you mean 'title'"),
            ({"author": 1}, r"Book\.author is a relationship"),
            ({"id": 5}, r"Book\.id tells which row it is"),
            ({}, r"no value is given"),
            ({"title": Author.name}, r"title: an expression is about author"),
        ],
    )
    async def test_values(self, stocked: World, values: dict[str, Any], message: str) -> None:
        """Names that are no columns, and what would be another row."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent, pytest.raises(DeclarationError, match=message):
                await shop.books.bulk.update(values, everything=True)
            await shop.commit()

        assert sent == []

    async def test_a_class_that_wants_to_see_its_objects(self, kinds: World) -> None:
        """None are made; who only looks at values does not mind that rows go."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match="@validates of 'name' would not be called; change objects"):
                await of(shop, Checked).bulk.update({"name": "x"}, everything=True)
            with pytest.raises(DeclarationError, match="before_update listener and the after_update listener"):
                await of(shop, Heard).bulk.update({"name": "x"}, everything=True)
            with pytest.raises(DeclarationError, match="before_delete listener and the after_delete listener"):
                await of(shop, Heard).bulk.delete(everything=True)
            assert await of(shop, Checked).bulk.delete(everything=True) == 0
            await shop.rollback()

    async def test_two_names_of_one_column(self, kinds: World) -> None:
        """One of the values would be lost."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match="two names are those of one column"):
                await of(shop, Vehicle).bulk.update({"name": "a", "title": "b"}, everything=True)

    async def test_criteria(self, stocked: World) -> None:
        """None at all is said on purpose; those about other models are not what they seem."""
        wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            ((), {}, "no criteria"),
            ((Book.id == 1,), {"everything": True}, "contradict"),
            ((Author.name == "x",), {}, "about author"),
            ((Book.author_id == Author.id,), {}, "about author"),
            ((aliased(Book).id == 1,), {}, "about"),
            ((Book.id.in_([1]), Wheel.id == 1), {}, "about blk_wheel"),
        ]
        async with stocked.shop() as shop:
            for where, options, message in wrong:
                with recorded(stocked) as sent, pytest.raises(DeclarationError, match=message):
                    await shop.books.bulk.update({"stock": 0}, *where, **options)
                with pytest.raises(DeclarationError, match=message):
                    await shop.books.bulk.delete(*where, **options)
                assert sent == []
            for other in (True, text("1 = 1"), update(Book)):
                with pytest.raises(TypeError, match="A criterion is"):
                    await shop.books.bulk.delete(other)
            await shop.commit()

    async def test_where_nothing_is_written(self, stocked: World) -> None:
        """Outside of a block, and in one that only reads."""
        async with stocked.serving() as shop:
            with pytest.raises(OutsideBlockError):
                await shop.books.bulk.delete(everything=True)
            async with shop.block(read_only=True):
                with pytest.raises(ReadOnlyError):
                    await shop.books.bulk.update({"stock": 1}, everything=True)


async def test_what_was_loaded_before_the_block(stocked: World) -> None:
    """It shows what is stored now, somebody else's changes among it."""
    async with stocked.serving() as shop:
        loaded = await shop.books.get_one(1)
        with rival(stocked) as other:
            other.execute(text("UPDATE book SET title = 'Theirs' WHERE id = 1"))
            other.commit()
        async with shop:
            await shop.books.bulk.update({"stock": 77}, Book.id == 1)
            assert (loaded.stock, loaded.title) == (77, "Theirs")
            with recorded(stocked) as sent:
                assert await shop.books.get_one(1) is loaded
            assert sent == []  # it has been read in this block
            await shop.commit()
