"""`bulk.upsert`: insert, or change what is there; right under a race, and never another row than the one meant."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from conftest import World
from pydantic import BaseModel
from repository.bulk_models import Checked, Heard, Hue, Pet, Seat, Stock, Tag, Tally, Thing, Truck, kinds, of, row
from repository.scenes import ON_SQLITE, recorded, rival, rival_engine
from servers import DRIVERS
from sqlalchemy import Engine, MetaData, event, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bookshop.models import Book
from fastkit.database import Retry
from fastkit.errors import DeclarationError, InvalidValueError, OutsideBlockError, TransactionDoomedError, UniqueError
from fastkit.repository import Repository

pytestmark = pytest.mark.anyio
__all__ = ["kinds"]


class Line(BaseModel):
    """What a writer of the race is given back."""

    sku: str
    stock: int
    year: int


def counted(shop: Any, rows: list[dict[str, Any]]) -> Any:
    """Upsert, and return how many."""
    return shop.books.bulk.upsert(rows, match="sku")


def returned(shop: Any, rows: list[dict[str, Any]]) -> Any:
    """Upsert, and return the rows."""
    return shop.books.into(Line).upsert(rows, match="sku")


ON_SERVERS = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server != "SQLite"], indirect=True, ids=lambda driver: driver.id
)


class TestUpsert:
    """What is there changes, what is not is inserted."""

    @pytest.mark.parametrize("match", ["sku", Book.sku, ["sku"], [Book.sku]])
    async def test_some_of_each(self, stocked: World, match: Any) -> None:
        """All that is given changes, but for the key."""
        async with stocked.shop() as shop:
            await shop.books.bulk.insert([row(1), row(2)])
            loaded = await shop.books.one(Book.sku == "s1")
            with recorded(stocked) as sent:
                number = await shop.books.bulk.upsert((row(n, stock=50 + n) for n in (3, 1)), match=match)
            await shop.commit()
        async with stocked.shop() as shop:
            found = {each.sku: each.stock for each in await shop.books.all(Book.sku.like("s_"))}

        assert number == 2
        assert found == {"s1": 51, "s2": 5, "s3": 53}
        assert loaded.stock == 51
        assert [statement.split()[0] for statement in sent] == ["INSERT", "SELECT"]

    async def test_what_may_change(self, stocked: World) -> None:
        """Only what is named; nothing, if nothing is named."""
        async with stocked.shop() as shop:
            await shop.books.bulk.insert([row(1)])
            for change, expected in (([], (5, 1815)), (Book.stock, (50, 1815)), (["stock", "year"], (50, 2000))):
                await shop.books.bulk.upsert([row(1, stock=50, year=2000)], match="sku", set=change)
                found = await shop.books.one(Book.sku == "s1")
                assert (found.stock, found.year) == expected
            await shop.books.bulk.upsert([row(2)], match="sku", set=[])
            assert await shop.books.exists(Book.sku == "s2")
            await shop.rollback()

    async def test_versions_types_and_what_a_change_writes(self, kinds: World) -> None:
        """As with objects; a new row has version 1 and none of what a change writes."""
        async with kinds.shop() as shop:
            things = of(shop, Thing)
            await things.bulk.upsert([{"label": "a", "shout": "X"}, {"label": "b"}], match=Thing.label)
            old = await things.one(Thing.label == "a")
            key = old.id
            assert (old.version, old.tick, old.told) == (1, None, None)
            given = [{"label": "a", "hue": Hue.BLUE, "data": [1]}, {"label": "c", "hue": Hue.BLUE, "data": [2]}]
            await things.bulk.upsert(given, match=Thing.label)
            new = await things.one(Thing.label == "c")
            assert (old.id, old.version, old.hue, old.data, old.shout) == (key, 2, Hue.BLUE, [1], "X")
            assert isinstance(old.tick, int)
            assert old.told == "changed"
            assert (new.version, new.hue, new.data, new.tick, new.told) == (1, Hue.BLUE, [2], None, None)
            await things.bulk.upsert([{"label": "a"}], match=Thing.label)
            assert old.version == 2  # nothing is given that could change
            await things.bulk.upsert([{"label": "a", "told": "given"}], match=Thing.label)
            assert old.told == "given"
            await shop.rollback()

    async def test_the_order_is_that_of_the_keys(self, stocked: World) -> None:
        """Two writers lock the same rows in the same order, or each would wait for the other."""
        async with stocked.shop() as shop:
            await shop.books.bulk.upsert([row(n) for n in (3, 1, 2)], match="sku")
            found = await shop.books.order_by(Book.id).all(Book.sku.like("s_"))
            await shop.rollback()

        assert [each.sku for each in found] == ["s1", "s2", "s3"]

    async def test_the_primary_key_of_a_row_that_is_there(self, stocked: World) -> None:
        """It stays, or what refers to the row would lose it."""
        async with stocked.shop() as shop:
            await shop.books.bulk.upsert([row(1, id=900, sku="sku-Emma")], match="sku")
            assert (await shop.books.one(Book.sku == "sku-Emma")).id == 1
            await shop.rollback()

    async def test_none(self, kinds: World) -> None:
        """It is NULL in a row that is there, too."""
        async with kinds.shop() as shop:
            for code in ("c", None):
                await of(shop, Stock).bulk.upsert([{"place": 1, "part": "a", "code": code}], match=["place", "part"])
            assert (await of(shop, Stock).one()).code is None
            await shop.rollback()

    async def test_what_a_dataclass_makes(self, kinds: World) -> None:
        """A new row has it; in one that is there nothing changes that is not given."""
        async with kinds.shop() as shop:
            await of(shop, Pet).bulk.insert([{"name": "a", "tricks": ["roll"]}])
            await of(shop, Pet).bulk.upsert([{"name": "a", "age": 1}, {"name": "b", "age": 2}], match="name")
            found = {each.name: (each.tricks, each.age) for each in await of(shop, Pet).all()}
            await shop.rollback()

        assert found == {"a": (["roll"], 1), "b": (["sit"], 2)}

    async def test_a_change_of_columns_and_values(self, kinds: World) -> None:
        """The drivers of MariaDB have no place for it, which is told in words."""
        async with kinds.shop() as shop:
            tallies = of(shop, Tally)
            if kinds.server == "MariaDB":
                with pytest.raises(DeclarationError, match=r"onupdate of blk_tally\.more is SQL with both"):
                    await tallies.bulk.upsert([{"id": 1, "pieces": 1}], match="id")
                return
            for pieces in (1, 2):
                await tallies.bulk.upsert([{"id": 1, "pieces": pieces}], match="id")
            found = await tallies.one()
            assert (found.pieces, found.more, found.version) == (2, 6, 1)  # the database counts, or nobody does
            await shop.rollback()

    @pytest.mark.parametrize("match", [["place", "part"], ["part", "place"], ["code", "shelf"], ["label"]])
    async def test_keys_of_all_kinds(self, kinds: World, match: list[str]) -> None:
        """The primary key, a unique constraint and a unique index, in any order."""
        first = {"place": 1, "part": "a", "code": "c", "shelf": 2, "label": "l", "pieces": 1}
        async with kinds.shop() as shop:
            for pieces in (1, 2, 3):
                await of(shop, Stock).bulk.upsert([{**first, "pieces": pieces}], match=match)
            assert [each.pieces for each in await of(shop, Stock).all()] == [3]
            await shop.rollback()

    async def test_null_is_equal_to_nothing(self, kinds: World) -> None:
        """Rows that are told by NULL are new ones."""
        async with kinds.shop() as shop:
            rows = [{"place": n, "part": "a", "label": label} for n, label in ((1, None), (2, None), (3, "x"))]
            assert await of(shop, Stock).bulk.upsert(rows, match="label") == 3
            assert await of(shop, Stock).count() == 3
            with pytest.raises(InvalidValueError, match="None is equal to nothing"):
                await of(shop, Stock).bulk.upsert_one({"place": 4, "part": "a", "label": None}, match="label")
            await shop.rollback()

    async def test_one_and_its_object(self, stocked: World) -> None:
        """The object that is loaded, if one is."""
        async with stocked.shop() as shop:
            new = await shop.books.bulk.upsert_one(row(1), match="sku")
            same = await shop.books.bulk.upsert_one(row(1, stock=9), match="sku", set="stock")
            assert new is same
            assert (new.stock, new.title) == (9, "t1")
            new.title = "changed"
            await shop.commit()
        async with stocked.shop() as shop:
            assert (await shop.books.one(Book.sku == "s1")).title == "changed"

    async def test_one_that_somebody_else_inserted(self, stocked: World) -> None:
        """It is found although the block began before, and although nothing of it changes."""
        if stocked.server == "SQLite":
            pytest.skip("one writer at a time")
        async with stocked.shop() as shop:
            assert await shop.books.count() == 2
            with rival(stocked) as other:
                other.execute(insert(Book.__table__), row(1))
                other.commit()
            for change in (None, [], ["stock"]):
                assert (await shop.books.bulk.upsert_one(row(1), match="sku", set=change)).title == "t1"
            await shop.rollback()

    async def test_many_chunks(self, stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Twice the same rows are stored once."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 100)
        async with stocked.shop() as shop:
            for stock in (1, 2):
                assert await shop.books.bulk.upsert((row(n, stock=stock) for n in range(1000)), match="sku") == 1000
            assert await shop.books.count(Book.stock == 2) == 1000
            await shop.rollback()


class TestAnotherKey:
    """A row that is the same as another one by something else than what it is told by."""

    @pytest.mark.parametrize("number", [1, 3])
    async def test_is_an_error(self, stocked: World, number: int) -> None:
        """MariaDB would change that other row in silence."""
        async with stocked.shop() as shop:
            await shop.books.bulk.insert([row(1)])
            await shop.commit()
        rows = [row(9, title="t1", stock=99), *(row(n) for n in range(20, 20 + number - 1))]
        with pytest.raises(UniqueError) as caught:
            async with stocked.shop() as shop:
                await shop.books.bulk.upsert(rows, match="sku")
        async with stocked.shop() as shop:
            assert (await shop.books.one(Book.sku == "s1")).stock == 5
            assert await shop.books.count() == 3

        assert caught.value.table == "book"

    async def test_by_a_part_of_the_key(self, kinds: World) -> None:
        """One column of two tells no row."""
        there = {"place": 1, "part": "a", "code": "c", "shelf": 1, "label": "l"}
        async with kinds.shop() as shop:
            await of(shop, Stock).bulk.insert([there])
            await shop.commit()
        with pytest.raises(UniqueError):
            async with kinds.shop() as shop:
                await of(shop, Stock).bulk.upsert([{**there, "place": 2, "shelf": 2}], match=["code", "shelf"])

    async def test_by_the_primary_key(self, stocked: World) -> None:
        """Either way round."""
        for given, match in ((row(1, id=1), "sku"), (row(1, id=77, sku="sku-Emma"), "id")):
            for change in (None, []):
                with pytest.raises(UniqueError):
                    async with stocked.shop() as shop:
                        await shop.books.bulk.upsert([given], match=match, set=change)


class TestRefused:
    """What can never work."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"match": "title"}, r"no unique constraint of book is about \(title\).*\(id\).*\(sku\)"),
            ({"match": []}, r"no unique constraint"),
            ({"match": ["sku", "title"]}, r"no unique constraint of book is about \(sku, title\)"),
            ({"match": "skuu"}, r"match=...\): Book has no attribute 'skuu'; did you mean 'sku'"),
            ({"match": Stock.label}, r"Stock\.label is not an attribute of Book"),
            ({"match": "sku", "set": "stok"}, r"set=...\): Book has no attribute 'stok'"),
            ({"match": "sku", "set": ["stock", "id"]}, r"id tells which row it is"),
            ({"match": "sku", "set": ["sku"]}, r"sku tells which row it is"),
            ({"match": "sku", "set": ["id"]}, r"id tells which row it is"),
            ({"match": "id"}, r"row 1: 'id' is in match=, and not given"),
        ],
    )
    @ON_SQLITE
    async def test_declarations(self, stocked: World, options: dict[str, Any], message: str) -> None:
        """The message says what to write instead."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent, pytest.raises(DeclarationError, match=message):
                await shop.books.bulk.upsert([row(1)], **options)
            await shop.commit()

        assert sent == []

    @ON_SQLITE
    async def test_what_no_row_gives(self, kinds: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """It could never change; one row of many that gives it is enough."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 2)
        key, change = ["place", "part"], ["code", "pieces"]
        rows = [{"place": n, "part": "a", "code": f"c{n}"} for n in range(4)]
        async with kinds.shop() as shop:
            stock = of(shop, Stock)
            for number, statements in ((1, 0), (2, 1), (3, 1)):
                with recorded(kinds) as sent:
                    with pytest.raises(DeclarationError, match=r"bulk.upsert\(\), set=: no row gives 'pieces', so it"):
                        async with shop.savepoint():
                            await stock.bulk.upsert(rows[:number], match=key, set=change)
                assert len(sent) == statements
            for given in ([*rows, {"place": 9, "part": "a", "pieces": 9}], []):
                assert await stock.bulk.upsert(given, match=key, set=["pieces"]) == len(given)
            await shop.rollback()

    @ON_SQLITE
    async def test_what_is_given_as_none(self, kinds: World) -> None:
        """It stands for the default, and is given."""
        async with kinds.shop() as shop:
            await of(shop, Stock).bulk.upsert(
                [{"place": 1, "part": "a", "pieces": None}], match=["place", "part"], set="pieces"
            )
            assert (await of(shop, Stock).one()).pieces == 0
            await shop.rollback()

    @ON_SQLITE
    async def test_what_is_not_always_unique(self, stocked: World) -> None:
        """Some rows only, an expression, or not before the commit."""
        async with stocked.shop() as shop:
            for match in ("number", "name"):
                with pytest.raises(DeclarationError, match=r"can be told by: \(id\)\."):
                    await of(shop, Seat).bulk.upsert([{"number": 1, "name": "x"}], match=match)
            with pytest.raises(DeclarationError, match="Truck shares its table"):
                await of(shop, Truck).bulk.upsert([{"id": 1}], match="id")

    async def test_the_same_row_twice(self, stocked: World) -> None:
        """Both numbers are told, before anything is sent."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent, pytest.raises(InvalidValueError, match="rows 2 and 4 are the same"):
                await shop.books.bulk.upsert([row(1), row(2), row(3), row(2)], match="sku")
            await shop.commit()

        assert sent == []

    @ON_SQLITE
    async def test_the_same_row_in_a_later_chunk(self, stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was sent before cannot be committed."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 2)
        with pytest.raises(TransactionDoomedError):
            async with stocked.shop() as shop:
                with pytest.raises(InvalidValueError, match="rows 1 and 3 are the same"):
                    await shop.books.bulk.upsert([row(1), row(2), row(1)], match="sku")
                await shop.commit()

    async def test_the_same_as_it_is_stored(self, kinds: World) -> None:
        """What a type makes the same is the same."""
        async with kinds.shop() as shop:
            with pytest.raises(InvalidValueError, match="rows 1 and 2"):
                await of(shop, Tag).bulk.upsert([{"name": "Ada"}, {"name": "ADA"}], match="name")

    @ON_SQLITE
    async def test_the_same_row_among_others_of_fewer_columns(self, kinds: World) -> None:
        """The numbers are those of the rows as they were given."""
        rows = [{"place": n, "part": "a", "pieces": None if n == 2 else 1} for n in (1, 2, 3, 2)]
        async with kinds.shop() as shop:
            with pytest.raises(InvalidValueError, match="rows 2 and 4 are the same"):
                await of(shop, Stock).bulk.upsert(rows, match=["place", "part"])
            await shop.rollback()

    @ON_SQLITE
    async def test_a_class_that_wants_to_see_its_objects(self, kinds: World) -> None:
        """None are made."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match="@validates of 'name' would not be called; use objects"):
                await of(shop, Checked).bulk.upsert([{"id": 1, "name": "x"}], match="id")
            with pytest.raises(DeclarationError, match=r"before_insert .*after_insert .*before_update .*after_update "):
                await of(shop, Heard).bulk.upsert([{"id": 1}], match="id")

    @ON_SQLITE
    async def test_outside_of_a_block(self, stocked: World) -> None:
        """As for any write."""
        async with stocked.serving() as shop:
            with pytest.raises(OutsideBlockError):
                await shop.books.bulk.upsert([row(1)], match="sku")


@ON_SERVERS
@pytest.mark.parametrize("verb", [counted, returned], ids=["numbers", "rows"])
async def test_a_race_of_twenty(stocked: World, verb: Callable[..., Any]) -> None:
    """Each key is stored once, and each row is whole: that of one writer, who is given it back."""
    retry = Retry(attempts=60)
    keys = list(range(30))

    def rows(writer: int) -> list[dict[str, Any]]:
        shuffled = random.Random(writer).sample(keys, len(keys))
        return [row(key, stock=writer, year=1000 + writer) for key in shuffled]

    found: dict[int, Any] = {}
    if stocked.driver.is_async:
        limit = asyncio.Semaphore(4)  # as many as the pool has connections

        async def in_turn(writer: int) -> None:
            async with limit:
                found[writer] = await stocked.naked.run(
                    stocked.unit, lambda shop: verb(shop, rows(writer)), retry=retry
                )

        await asyncio.gather(*map(in_turn, range(20)))
    else:

        def write(writer: int) -> None:
            found[writer] = stocked.naked.run(stocked.unit, lambda shop: verb(shop, rows(writer)), retry=retry)

        together([partial(write, writer) for writer in range(20)])
    async with stocked.shop() as shop:
        left = await shop.books.all(Book.sku.like("s_") | Book.sku.like("s__"))

    assert sorted(each.sku for each in left) == sorted(f"s{key}" for key in keys)
    assert all(each.year == 1000 + each.stock for each in left)
    for writer, given in found.items():
        expected = [(each["sku"], writer, 1000 + writer) for each in rows(writer)]
        assert given == len(keys) or [(each.sku, each.stock, each.year) for each in given] == expected


class Rare(DeclarativeBase):
    """The base of what one test stores."""

    metadata = MetaData()


class Coin(Rare):
    """What two keys tell, and an index between them that takes its time."""

    __tablename__ = "blk_coin"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    code: Mapped[str] = mapped_column(unique=True)
    pieces: Mapped[int]


SLOWLY = (
    "DROP TABLE IF EXISTS blk_coin",
    "CREATE OR REPLACE FUNCTION blk_slowly(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "  # noqa: ISC004 - one text
    "$$BEGIN IF n >= 70 THEN PERFORM pg_sleep(0.4); END IF; RETURN n; END$$",
    "CREATE TABLE blk_coin (id serial PRIMARY KEY, name text, code text, pieces int)",
    "CREATE INDEX blk_slow ON blk_coin (blk_slowly(pieces))",
    "CREATE UNIQUE INDEX blk_name ON blk_coin (name)",
    "CREATE UNIQUE INDEX blk_code ON blk_coin (code)",
)


@pytest.mark.parametrize("driver", [d for d in DRIVERS if d.server == "PostgreSQL"], indirect=True, ids=lambda d: d.id)
@pytest.mark.parametrize("guarded", [True, False])
async def test_a_rival_by_another_unique_key(world: World, guarded: bool) -> None:
    """PostgreSQL waits for it by the key of the upsert only; between its look and its write, it comes by the other."""
    engine = rival_engine(world)
    send(engine, *SLOWLY)

    def interfere() -> None:
        time.sleep(0.2)
        send(engine, "INSERT INTO blk_coin (name, code, pieces) VALUES ('a', 'a', 1)")

    given = [{"name": "b", "code": "b", "pieces": 5}, {"name": "a", "code": "a", "pieces": 77}]
    thread = threading.Thread(target=interfere)
    thread.start()
    try:
        if guarded:
            async with world.shop() as shop:
                await of(shop, Coin).bulk.upsert(given, match="code")
                await shop.commit()
        else:
            with Session(engine) as session:
                Repository(session, Coin).bulk.upsert(given, match="code")
                session.commit()
        with Session(engine) as session:
            found = {each.code: each.pieces for each in Repository(session, Coin).all()}
    finally:
        thread.join()
        send(engine, "DROP TABLE blk_coin", "DROP FUNCTION blk_slowly")
        engine.dispose()

    assert found == {"a": 77, "b": 5}


@pytest.mark.parametrize("driver", [d for d in DRIVERS if d.server != "MariaDB"], indirect=True, ids=lambda d: d.id)
async def test_a_savepoint_only_where_a_rival_may_come(kinds: World) -> None:
    """Where rows give all of another unique key, on PostgreSQL."""
    begun: list[Any] = []
    event.listen(kinds.sync_engine, "savepoint", lambda *ignored: begun.append(ignored))
    seen = []
    async with kinds.shop() as shop:
        for more in ({}, {"code": "c"}, {"code": "c", "shelf": 1}, {"label": "x"}):
            await of(shop, Stock).bulk.upsert([{"place": 1, "part": "a", **more}], match=["place", "part"])
            seen.append(len(begun))
        await of(shop, Stock).bulk.upsert([{"place": 2, "part": "a", "label": "x2"}], match="label")
        await shop.rollback()

    assert [*seen, len(begun)] == ([0, 0, 1, 2, 3] if kinds.server == "PostgreSQL" else [0] * 5)


async def test_another_row_by_another_key_is_no_race(stocked: World) -> None:
    """The same error twice is told, and the block is over although a savepoint was around the statement."""
    with pytest.raises(TransactionDoomedError):
        async with stocked.shop() as shop:
            with pytest.raises(UniqueError):
                await shop.books.bulk.upsert([row(9, title="Emma")], match="sku")
            await shop.commit()


def send(engine: Engine, *statements: str) -> None:
    """Send these statements, and commit."""
    with engine.begin() as connection:
        for each in statements:
            connection.execute(text(each))


def together(works: list[Callable[[], object]]) -> None:
    """Run all at once, at most as many as the pool has connections, and raise what one of them raised."""
    limit, errors = threading.Semaphore(4), list[BaseException]()

    def guarded(work: Callable[[], object]) -> None:
        with limit:
            try:
                work()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
