"""`upsert` of readers: rows in, each of them out as it is stored then, in the order given, whatever others do."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from conftest import World
from repository.bulk_models import Checked, Hue, Stock, Tag, Thing, kinds, of, row
from repository.scenes import ON_SQLITE, meanwhile, recorded, rival
from servers import DRIVERS
from sqlalchemy import Connection, delete, insert, text, update
from sqlalchemy.exc import OperationalError

from bookshop.models import Author, Book, Review
from fastkit.errors import DeclarationError, InvalidValueError, OutsideBlockError, UniqueError
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio
__all__ = ["kinds"]

ON_SERVERS = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server != "SQLite"], indirect=True, ids=lambda driver: driver.id
)


class Line(Schema):
    """A book in short."""

    id: int
    sku: str
    stock: int


class ReviewOut(Schema):
    """What is read for all books together."""

    stars: int


class BookOut(Schema):
    """A book with what stands in other rows."""

    sku: str
    title: str
    author_name: Annotated[str, From("author.name")]
    reviews: list[ReviewOut]


class Piece(Schema):
    """A row that is told by two columns."""

    place: int
    part: str
    code: str | None
    pieces: int


async def test_some_of_each(stocked: World) -> None:
    """New rows and those that were there, in the order given, by two statements; loaded objects show it too."""
    async with stocked.shop() as shop:
        await shop.books.bulk.insert([row(1), row(2)])
        with recorded(stocked) as sent:
            found = await shop.books.into(Line).upsert((row(n, stock=50 + n) for n in (3, 1, 4)), match=Book.sku)
        loaded = await shop.books.one(Book.sku == "s1")
        again = await shop.books.into(Line).upsert([row(1, stock=7)], match="sku", set=["stock"])
        await shop.commit()
    async with stocked.shop() as shop:
        stored = {each.sku: (each.id, each.stock) for each in await shop.books.all(Book.sku.like("s_"))}

    assert [(each.sku, each.stock) for each in found] == [("s3", 53), ("s1", 51), ("s4", 54)]
    assert [statement.split()[0] for statement in sent] == ["INSERT", "SELECT"]
    assert (loaded.stock, again[0].stock) == (7, 7)
    assert (again[0].id, stored.pop("s2")[1]) == (found[1].id, 5)
    assert stored == {**{each.sku: (each.id, each.stock) for each in found}, "s1": (found[1].id, 7)}


async def test_what_is_in_other_rows(stocked: World) -> None:
    """What the response model shows of them is read, in a fixed number of statements."""
    async with stocked.shop() as shop:
        shop.reviews.add(Review(book_id=1, customer_id=1, stars=4, text="good"))
        with recorded(stocked) as sent:
            given = [row(1), row(2, sku="sku-Emma", title="Emma!")]
            found = await shop.books.into(BookOut).upsert(given, match="sku")
        await shop.rollback()

    assert [each.model_dump() for each in found] == [
        {"sku": "s1", "title": "t1", "author_name": "Jane Austen", "reviews": []},
        {"sku": "sku-Emma", "title": "Emma!", "author_name": "Jane Austen", "reviews": [{"stars": 4}]},
    ]
    assert [statement.split()[0] for statement in sent] == ["INSERT", "INSERT", "SELECT", "SELECT"]


@pytest.mark.parametrize("change", [[], ["stock"], None])
async def test_where_nothing_changes(stocked: World, change: list[str] | None) -> None:
    """A row that stays as it is comes back like any other."""
    async with stocked.shop() as shop:
        await shop.books.bulk.insert([row(1), row(2)])
        given = [row(2, stock=9 if change == [] else 5), row(3), row(1)]
        found = await shop.books.into(Line).upsert(given, match="sku", set=change)
        await shop.rollback()

    assert [(each.sku, each.stock) for each in found] == [("s2", 5), ("s3", 5), ("s1", 5)]


async def test_rows_of_different_columns(kinds: World) -> None:
    """They come in the order given, not in that of the statements; what tells them may be two columns."""
    async with kinds.shop() as shop:
        stock = of(shop, Stock)
        await stock.bulk.insert([{"place": 1, "part": "a", "code": "old", "shelf": 1, "pieces": 7}])
        given = [
            {"place": 2, "part": "a", "pieces": 2},
            {"place": 1, "part": "a"},
            {"part": "b", "place": 1, "code": "new", "shelf": 2},
            {"place": 3, "part": "a", "pieces": 3},
        ]
        found = await stock.into(Piece).upsert(given, match=["part", "place"])
        await shop.rollback()

    assert [tuple(each.model_dump().values()) for each in found] == [
        (2, "a", None, 2),
        (1, "a", "old", 7),
        (1, "b", "new", 0),
        (3, "a", None, 3),
    ]


async def test_many_chunks(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several statements are one list; nothing is lost between them."""
    monkeypatch.setattr("fastkit.repository._batches.CHUNK", 100)
    monkeypatch.setattr("fastkit.repository._told.KEYS_AT_ONCE", 70)
    async with stocked.shop() as shop:
        await shop.books.bulk.insert([row(n) for n in range(0, 250, 3)])
        order = [(n * 7) % 250 for n in range(250)]
        with recorded(stocked) as sent:
            found = await shop.books.into(Line).upsert((row(n, stock=n) for n in order), match="sku")
        assert await shop.books.into(Line).upsert(iter(()), match="sku") == []
        await shop.rollback()

    assert [(each.sku, each.stock) for each in found] == [(f"s{n}", n) for n in order]
    assert sum(statement.startswith("SELECT") for statement in sent) == 4


async def test_keys_that_a_type_makes_the_same(kinds: World) -> None:
    """A row is found by what is stored, without a statement of its own."""
    shown = type("Shown", (Schema,), {"__annotations__": {"name": str}, "__module__": __name__})
    async with kinds.shop() as shop:
        with recorded(kinds) as sent:
            found = await of(shop, Tag).into(shown).upsert([{"name": "Bob"}, {"name": "ADA"}], match="name")
        await shop.rollback()

    assert [each.name for each in found] == ["BOB", "ADA"]
    assert len(sent) == 2


async def test_values_of_all_kinds(kinds: World) -> None:
    """Versions, defaults and types are those of the row."""

    class ThingOut(Schema):
        label: str
        hue: Hue
        data: Any
        version: int
        told: str | None

    async with kinds.shop() as shop:
        await of(shop, Thing).bulk.insert([{"label": "a", "data": [1]}])
        given = [{"label": "b", "hue": Hue.BLUE}, {"label": "a", "hue": Hue.BLUE}]
        found = await of(shop, Thing).into(ThingOut).upsert(given, match=Thing.label)
        await shop.rollback()

    assert [tuple(each.model_dump().values()) for each in found] == [
        ("b", Hue.BLUE, {}, 1, None),
        ("a", Hue.BLUE, [1], 2, "changed"),
    ]


@pytest.mark.parametrize("driver", [d for d in DRIVERS if d.server == "MariaDB"], indirect=True, ids=lambda d: d.id)
async def test_keys_that_the_database_takes_for_the_same(stocked: World) -> None:
    """MariaDB does not tell capitals: both rows are the one that is stored."""
    async with stocked.shop() as shop:
        given = [row(1, sku="ada", stock=1), row(2, sku="bob"), row(1, sku="ADA", stock=2)]
        found = await shop.books.into(Line).upsert(given, match="sku", set=["stock"])
        await shop.rollback()

    assert [each.sku.lower() for each in found] == ["ada", "bob", "ada"]
    assert found[0] == found[2]


@ON_SERVERS
@pytest.mark.parametrize("change", [None, ["stock"], []])
async def test_what_somebody_else_wrote_since_the_block_began(stocked: World, change: list[str] | None) -> None:
    """It is shown as it is now, also where the statement had nothing to change in it."""
    async with stocked.shop() as shop:
        assert await shop.books.count() == 2  # MariaDB takes its snapshot here
        with rival(stocked) as other:
            other.execute(insert(Book.__table__), row(1, stock=9))
            other.execute(update(Book.__table__).values(stock=9).where(Book.sku == "sku-Emma"))
            other.execute(update(Author.__table__).values(name="J. A."))
            other.commit()
        given = [row(2, sku="sku-Emma", title="Emma", stock=9), row(1, stock=9)]
        found = await shop.books.into(Line).upsert(given, match="sku", set=change)
        await shop.rollback()

    assert [(each.sku, each.stock) for each in found] == [("sku-Emma", 9), ("s1", 9)]


@ON_SERVERS
@pytest.mark.parametrize("change", [["stock"], []])
@pytest.mark.parametrize("one", [True, False])
async def test_the_rows_are_held(stocked: World, change: list[str], one: bool) -> None:
    """Nobody else can delete a row before it is returned, or until the block ends, although nothing of it changes."""
    patience = "SET lock_timeout = 100" if stocked.server == "PostgreSQL" else "SET innodb_lock_wait_timeout = 1"
    async with stocked.shop() as shop:

        def attempt(other: Connection) -> None:
            other.execute(text(patience))
            with pytest.raises(OperationalError):
                other.execute(delete(Book.__table__).where(Book.sku == "sku-Emma"))
            other.rollback()

        given = row(1, sku="sku-Emma", title="Emma")
        with meanwhile(stocked, "INSERT", attempt) as done:
            if one:
                await shop.books.bulk.upsert_one(given, match="sku", set=change)
            else:
                await shop.books.into(Line).upsert([given], match="sku", set=change)
        await shop.rollback()

    assert len(done) == 1


@pytest.mark.parametrize("driver", [d for d in DRIVERS if d.server == "PostgreSQL"], indirect=True, ids=lambda d: d.id)
async def test_rows_that_are_not_returned_are_not_held(stocked: World) -> None:
    """Nobody waits for what `bulk.upsert` only found to be there."""
    async with stocked.shop() as shop:
        await shop.books.bulk.upsert([row(1, sku="sku-Emma", title="Emma")], match="sku", set=[])
        with rival(stocked) as other:
            other.execute(text("SET lock_timeout = 1000"))
            assert other.execute(delete(Book.__table__).where(Book.sku == "sku-Emma")).rowcount == 1
            other.commit()
        await shop.rollback()


@pytest.mark.parametrize("driver", [d for d in DRIVERS if d.server == "PostgreSQL"], indirect=True, ids=lambda d: d.id)
async def test_a_row_that_does_not_change_is_not_written(stocked: World) -> None:
    """It is locked where it is; triggers and what counts changes see nothing."""
    place = text("SELECT ctid::text, xmin::text FROM book WHERE id = 1").execution_options(fastkit_reads=True)
    async with stocked.shop() as shop:
        before = (await shop.session.execute(place)).one()
        await shop.books.into(Line).upsert([row(1, sku="sku-Emma", title="Emma")], match="sku", set=[])
        assert (await shop.session.execute(place)).one() == before
        await shop.rollback()


@ON_SQLITE
async def test_keys_of_several_columns_are_fewer_at_once(kinds: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement takes so many values."""
    monkeypatch.setattr("fastkit.repository._told.KEYS_AT_ONCE", 4)
    async with kinds.shop() as shop:
        with recorded(kinds) as sent:
            given = [{"place": n, "part": "a", "pieces": n} for n in (3, 1, 2)]
            found = await of(shop, Stock).into(Piece).upsert(given, match=["place", "part"])
        await shop.rollback()

    assert [each.place for each in found] == [3, 1, 2]
    assert [statement.split()[0] for statement in sent] == ["INSERT", "SELECT", "SELECT"]


@ON_SQLITE
async def test_a_row_that_a_trigger_left_out(stocked: World) -> None:
    """The message says which one, and why it may be."""
    left_out = "CREATE TRIGGER odd BEFORE INSERT ON book WHEN NEW.sku = 's2' BEGIN SELECT RAISE(IGNORE); END"
    with rival(stocked) as other:
        other.execute(text(left_out))
        other.commit()
    async with stocked.shop() as shop:
        with pytest.raises(DeclarationError, match=r"upsert\(\), row 2: no Book has this \(sku\) after it was written"):
            await shop.books.into(Line).upsert([row(1), row(2), row(3)], match="sku")
        await shop.rollback()


@ON_SQLITE
@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([row(1), row(2)], {"match": "title"}, r"no unique constraint of book is about \(title\)"),
        ([row(1)], {"match": "sku", "set": "stok"}, r"upsert\(set=...\): Book has no attribute 'stok'"),
        ([{"title": "x"}], {"match": "sku"}, r"upsert\(\), row 1: 'sku' is in match=, and not given"),
        (row(1), {"match": "sku"}, r"upsert\(\) takes many rows, in a list or from a generator, not dict"),
    ],
)
async def test_what_can_never_work(stocked: World, rows: Any, options: dict[str, Any], message: str) -> None:
    """It is told before anything is sent, as by `bulk.upsert`."""
    async with stocked.shop() as shop:
        with recorded(stocked) as sent, pytest.raises(DeclarationError, match=message):
            await shop.books.into(Line).upsert(rows, **options)
        await shop.commit()

    assert sent == []


@ON_SQLITE
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(1), row(2), row(1)], "rows 1 and 3 are the same by sku"),
        ([row(1), {**row(2), "sku": None}], "row 2 has no sku"),
    ],
)
async def test_rows_that_a_client_may_have_sent(stocked: World, rows: Any, message: str) -> None:
    """They are an error of theirs, not of the code."""
    async with stocked.shop() as shop:
        with recorded(stocked) as sent, pytest.raises(InvalidValueError, match=message) as raised:
            await shop.books.into(Line).upsert(rows, match="sku")
        await shop.commit()

    assert sent == []
    assert (raised.value.status, raised.value.public) == (422, True)


@ON_SQLITE
async def test_a_class_that_wants_to_see_its_objects(kinds: World) -> None:
    """None are made."""
    shown = type("Shown", (Schema,), {"__annotations__": {"id": int}, "__module__": __name__})
    async with kinds.shop() as shop:
        with pytest.raises(DeclarationError, match="@validates of 'name' would not be called; use objects"):
            await of(shop, Checked).into(shown).upsert([{"id": 1}], match="id")
        await shop.rollback()


@ON_SQLITE
async def test_outside_of_a_block(stocked: World) -> None:
    """As for any write."""
    async with stocked.serving() as shop:
        with pytest.raises(OutsideBlockError):
            await shop.books.into(Line).upsert([row(1)], match="sku")


async def test_another_row_by_something_else(stocked: World) -> None:
    """It is an error, and the block is over."""
    with pytest.raises(UniqueError):
        async with stocked.shop() as shop:
            await shop.books.into(Line).upsert([row(9, title="Emma")], match="sku")
