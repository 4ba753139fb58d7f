"""`bulk.insert`, with and without COPY: many rows in, few statements, and nothing half-written."""

from __future__ import annotations

import asyncio
import tracemalloc
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from conftest import World
from pydantic import BaseModel
from repository.bulk_models import (
    NOON,
    BookIn,
    Checked,
    Elsewhere,
    Heard,
    Hue,
    Leaf,
    Pet,
    Stamped,
    Stock,
    Tag,
    Thing,
    Truck,
    Vehicle,
    kinds,
    of,
    row,
)
from repository.scenes import ON_SQLITE, recorded, rival_engine, sync_session
from servers import DRIVERS
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema, DropSchema

from bookshop.models import Author, Base, Book
from fastkit.database._copy import _row_of
from fastkit.errors import (
    CheckError,
    DeclarationError,
    FastkitError,
    ForeignKeyError,
    InvalidValueError,
    NotNullError,
    OutsideBlockError,
    ReadOnlyError,
    TransactionDoomedError,
    UniqueError,
)
from fastkit.repository import Repository

pytestmark = pytest.mark.anyio
__all__ = ["kinds"]

POSTGRESQL = [driver for driver in DRIVERS if driver.server == "PostgreSQL"]
ON_POSTGRESQL = pytest.mark.parametrize("driver", POSTGRESQL, indirect=True, ids=lambda driver: driver.id)


@pytest.fixture(params=["statements", "copy"])
def copy(request: pytest.FixtureRequest, world: World) -> bool:
    """Return both ways where there are two."""
    if request.param == "copy" and world.server != "PostgreSQL":
        pytest.skip("COPY is PostgreSQL's")
    return bool(request.param == "copy")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"year": None}, "'year'"),
    "a text for a number": ({"stock": "many"}, "'stock'"),
    "a list for a text": ({"title": ["x"]}, "'title'"),
    "too large": ({"stock": 2**70}, "'stock'"),
    "too long": ({"language": "english"}, "'language'"),
    "too many digits": ({"price": Decimal(10**9)}, "'price'"),
}


@pytest.mark.parametrize("upserts", [False, True])
@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_row_is_named(stocked: World, case: str, upserts: bool) -> None:
    """With its column, and without its value; rows of other columns before it are counted."""
    wrong, column = REFUSED[case]
    if stocked.server == "SQLite" and case in {"too long", "too many digits", "a text for a number"}:
        pytest.skip("SQLite stores it")
    if case == "a list for a text" and stocked.server != "SQLite" and "asyncpg" not in stocked.driver.id:
        pytest.skip("the driver makes a text of it")
    rows = [BookIn(sku="m", title="m"), *(row(n) for n in (1, 2)), row(3, **wrong), row(4)]
    with pytest.raises((InvalidValueError, NotNullError), match=rf" It is row 4, column {column}\.$") as caught:
        async with stocked.shop() as shop:
            if upserts:
                await shop.books.bulk.upsert(rows, match="sku")
            else:
                await shop.books.bulk.insert(rows)

    assert "many" not in str(caught.value)
    assert "english" not in str(caught.value)


async def test_a_refused_row_that_nothing_tells(stocked: World) -> None:
    """The rows that it is one of; if there is only one, its number."""
    for rows, told in (
        ([row(n) for n in (1, 2, 1)], "It is one of the rows 1 to 3."),
        ([row(1, stock=-1)], "It is row 1."),
    ):
        with pytest.raises((UniqueError, CheckError)) as caught:
            async with stocked.shop() as shop:
                await shop.books.bulk.insert(rows)
        assert str(caught.value).endswith(told)


@ON_SQLITE
async def test_a_row_that_a_type_refuses_is_named(kinds: World) -> None:
    """By the conversion of its column."""
    with pytest.raises(InvalidValueError, match=r"It is row 2, column 'made_at'\."):
        async with kinds.shop() as shop:
            await of(shop, Thing).bulk.insert([{"label": "a"}, {"label": "b", "made_at": NOON.replace(tzinfo=None)}])


class AnswerError(Exception):
    """What a server may answer."""

    def __init__(self, context: str | None, sqlstate: str | None = "23503") -> None:
        self.context = context
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "taken", "row"),
    [
        (AnswerError("COPY book, line 3, column stock: x"), 9, 2),
        (AnswerError("COPY book, ligne 12"), 9, 11),
        (AnswerError("SQL function x during startup"), 9, None),
        (AnswerError(None), 9, None),  # a foreign key is looked at when all rows are there
        (AnswerError(None, sqlstate=None), 9, 8),  # the driver, which was at this one
        (AnswerError(None, sqlstate=None), 0, None),
        (asyncio.CancelledError(), 9, None),
    ],
)
def test_which_row_a_copy_failed_at(error: BaseException, taken: int, row: int | None) -> None:
    """That which the server names, or else the last one that the driver took; none if the server names none."""
    assert _row_of(error, taken) == row


async def stored(world: World) -> int:
    """Return how many books are stored."""
    async with world.shop() as shop:
        return await shop.books.count()


class TestInsert:
    """What goes in."""

    @pytest.mark.parametrize("form", ["mappings", "models", "generator", "mixed"])
    async def test_rows(self, stocked: World, copy: bool, form: str) -> None:
        """Any iterable of models and mappings, in one statement for each form."""
        rows: Any = [row(number) for number in range(100)]
        models = [BookIn(**each) for each in rows]
        given = {"mappings": rows, "models": models, "generator": iter(rows), "mixed": [*models[:50], *rows[50:]]}
        async with stocked.shop() as shop:
            with recorded(stocked) as sent:
                number = await shop.books.bulk.insert(given[form], copy=copy)
            await shop.commit()
        async with stocked.shop() as shop:
            found = await shop.books.order_by(Book.id).all(Book.sku.like("s%"), Book.id > 2)

        assert number == 100
        assert len(sent) <= (1 if copy else 2 if form == "mixed" else 1)
        assert sorted((each.sku, each.title, each.price) for each in found) == sorted(
            (each["sku"], each["title"], Decimal(10)) for each in rows
        )

    async def test_same_as_an_added_object(self, kinds: World, copy: bool) -> None:
        """Defaults, types and versions are those of a flush."""
        given: dict[str, Any] = {"hue": None, "price": None, "data": {"a": [1]}, "shout": "LOUD"}
        names = ["label", "order", "shout", "hue", "data", "made_at", "price", "tick", "told", "version"]
        async with kinds.shop() as shop:
            things = of(shop, Thing)
            things.add(Thing(label="one", **given))
            assert await things.bulk.insert([{"label": "two", **given}, {"label": "three"}], copy=copy) == 2
            await shop.commit()
        async with kinds.shop() as shop:
            found = {each.label: each for each in await of(shop, Thing).all()}
            one, two, three = ([getattr(found[label], name) for name in names[2:]] for label in ("one", "two", "three"))

        assert one == two == ["LOUD", Hue.RED, {"a": [1]}, NOON, Decimal("2.50"), None, None, 1]
        assert three == ["QUIET", Hue.RED, {}, NOON, Decimal("2.50"), None, None, 1]
        assert [found[label].order for label in ("one", "two", "three")] == ["ONE", "TWO", "THREE"]
        assert isinstance(found["two"].id, uuid.UUID)

    async def test_given_values_of_all_kinds(self, kinds: World, copy: bool) -> None:
        """Types convert what is given, of models as well."""

        class Nested(BaseModel):
            size: int

        class ThingIn(BaseModel):
            id: uuid.UUID
            label: str
            order: str
            hue: Hue
            data: list[Nested]
            price: Decimal

        key = uuid.uuid4()
        given = ThingIn(
            id=key, label="a\tb\\n", order="100%", hue=Hue.BLUE, data=[Nested(size=1)], price=Decimal("1.25")
        )
        async with kinds.shop() as shop:
            await of(shop, Thing).bulk.insert([given], copy=copy)
            found = await of(shop, Thing).get_one(key)
            await shop.rollback()

        assert (found.label, found.order, found.hue) == ("a\tb\\n", "100%", Hue.BLUE)
        assert (found.data, found.price) == ([{"size": 1}], Decimal("1.25"))

    async def test_as_many_columns_but_others(self, kinds: World, copy: bool) -> None:
        """Rows of the same length are not rows of the same columns."""
        rows = [{"place": 1, "part": "p", "code": "c"}, {"place": 2, "part": "p", "shelf": 7}]
        async with kinds.shop() as shop:
            await of(shop, Stock).bulk.insert(rows, copy=copy)
            found = [(each.code, each.shelf) for each in await of(shop, Stock).order_by(Stock.place).all()]
            await shop.rollback()

        assert found == [("c", None), (None, 7)]

    async def test_mappings_and_models_of_the_same_columns(self, kinds: World, copy: bool) -> None:
        """What is JSON of a model is made of it, whatever comes before."""

        class Nested(BaseModel):
            size: int

        class NoteIn(BaseModel):
            data: list[Nested]
            label: str

        async with kinds.shop() as shop:
            rows = [{"data": [], "label": "a"}, NoteIn(data=[Nested(size=1)], label="b")]
            await of(shop, Thing).bulk.insert(rows, copy=copy)
            found = {each.label: each.data for each in await of(shop, Thing).all()}
            await shop.rollback()

        assert found == {"a": [], "b": [{"size": 1}]}

    async def test_null_of_json(self, kinds: World, copy: bool) -> None:
        """None is a value there, as with objects, and no want of one."""
        async with kinds.shop() as shop:
            of(shop, Thing).add(Thing(label="one", data=None))
            await of(shop, Thing).bulk.insert([{"label": "two", "data": None}], copy=copy)
            assert [each.data for each in await of(shop, Thing).all()] == [None, None]
            await shop.rollback()

    async def test_a_version_that_is_given(self, kinds: World, copy: bool) -> None:
        """A new row has the first one, as with objects."""
        async with kinds.shop() as shop:
            await of(shop, Thing).bulk.insert([{"label": "x", "version": 9}], copy=copy)
            assert (await of(shop, Thing).one()).version == 1
            await shop.rollback()

    async def test_what_a_dataclass_makes(self, kinds: World, copy: bool) -> None:
        """For each row that does not give it."""
        async with kinds.shop() as shop:
            await of(shop, Pet).bulk.insert([{"name": "a"}, {"name": "b", "tricks": ["roll"]}], copy=copy)
            found = {each.name: each.tricks for each in await of(shop, Pet).all()}
            await shop.rollback()

        assert found == {"a": ["sit"], "b": ["roll"]}

    async def test_rows_that_name_different_columns(self, kinds: World, copy: bool) -> None:
        """Ten thousand rows that take turns are a few statements."""
        rows = [{"place": n, "part": "p", **({"code": "c", "shelf": n} if n % 2 else {})} for n in range(10_000)]
        rows[7]["pieces"] = None
        async with kinds.shop() as shop:
            with recorded(kinds) as sent:
                number = await of(shop, Stock).bulk.insert(rows, copy=copy)
            assert await of(shop, Stock).count(Stock.code == "c") == 5000
            assert await of(shop, Stock).count(Stock.pieces == 0) == number == 10_000
            await shop.rollback()

        assert len({statement[:300] for statement in sent}) <= 3

    async def test_chunks_of_a_generator(self, stocked: World, copy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is read as it is sent, and not before."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 10)
        seen: list[int] = []

        def rows(writes: Any) -> Iterator[Any]:
            for number in range(25):
                seen.append(sum(writes().values()))
                yield row(number)

        async with stocked.shop() as shop:
            transaction: Any = sync_session(shop)
            number = await shop.books.bulk.insert(rows(lambda: transaction.open_transaction.writes), copy=copy)
            assert (await shop.books.count(), number) == (27, 25)
            await shop.rollback()

        assert (seen[9], seen[10], seen[20]) == (0, 1, 2)

    @ON_SQLITE
    async def test_constant_memory(self, stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forty thousand rows take no more of it than the chunks do."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 500)
        async with stocked.shop() as shop:
            await shop.books.bulk.insert([row(-1)])
            tracemalloc.start()
            await shop.books.bulk.insert(row(number) for number in range(40_000))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            await shop.rollback()

        assert peak < 8_000_000

    async def test_a_class_of_a_table_of_several(self, kinds: World, copy: bool) -> None:
        """What tells the classes apart is written, and cannot be given otherwise."""
        async with kinds.shop() as shop:
            await of(shop, Truck).bulk.insert([{"load": 1}, {"load": 2, "kind": "truck"}, {}], copy=copy)
            with pytest.raises(DeclarationError, match=r"row 2: Vehicle\.kind tells the class"):
                await of(shop, Vehicle).bulk.insert([{"kind": "vehicle"}, {"kind": "truck"}], copy=copy)
            found = await of(shop, Truck).all()
            await shop.rollback()

        assert sorted(each.load or 0 for each in found) == [0, 1, 2]

    async def test_nothing(self, kinds: World, copy: bool) -> None:
        """No rows are no statement; rows of nothing are rows of defaults."""
        async with kinds.shop() as shop:
            with recorded(kinds) as sent:
                assert await of(shop, Vehicle).bulk.insert([], copy=copy) == 0
            assert sent == []
            assert await of(shop, Vehicle).bulk.insert([{}, {}, {}], copy=copy) == 3
            assert await of(shop, Vehicle).count() == 3
            await shop.rollback()

    async def test_what_is_pending_goes_first(self, world: World, copy: bool) -> None:
        """A row may refer to an object that was added before."""
        async with world.shop() as shop:
            shop.authors.add(Author(id=1, name="Jane Austen"))
            await shop.books.bulk.insert([row(1)], copy=copy)
            await shop.commit()

        assert await stored(world) == 1

    async def test_validated_rows(self, stocked: World, copy: bool) -> None:
        """What is stored is what the model made of it."""
        async with stocked.shop() as shop:
            await shop.books.bulk.insert([{"sku": "v", "title": "v", "stock": "7"}], validate=BookIn, copy=copy)
            found = await shop.books.one(Book.sku == "v")
            await shop.rollback()

        assert (found.stock, found.year) == (7, 1815)


class TestRefused:
    """What does not go in, and that nothing of it does."""

    async def test_a_row_that_is_not_valid(self, stocked: World, copy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error tells its number and its field, no value, and nothing is stored."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 3)
        rows = [row(number) for number in range(7)]
        rows[5]["stock"] = "secret"
        with pytest.raises(InvalidValueError, match=r"^Row 6 does not fit BookIn: stock \(int_parsing\)\.$") as caught:
            async with stocked.shop() as shop:
                await shop.books.bulk.insert(rows, validate=BookIn, copy=copy)

        assert caught.value.columns == ("stock",)
        assert caught.value.__cause__ is None
        assert await stored(stocked) == 2

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"titel": "x"}, r"row 3: Book has no attribute 'titel'; did you mean 'title'"),
            ({"author": 1}, r"row 3: Book\.author is a relationship: give its foreign key \(author_id\)"),
            ({"title": func.lower("X")}, r"row 3: 'title' is a SQL expression"),
            (("title", "x"), r"row 3: a row is a Pydantic model or a mapping, not tuple"),
        ],
    )
    @ON_SQLITE
    async def test_bad_rows(self, stocked: World, given: Any, message: str) -> None:
        """The message names the row."""
        third = {**row(3), **given} if isinstance(given, dict) else given
        async with stocked.shop() as shop:
            with pytest.raises(DeclarationError, match=message):
                await shop.books.bulk.insert([row(1), row(2), third])
            await shop.commit()  # nothing was sent

        assert await stored(stocked) == 2

    async def test_a_sql_expression_among_rows(self, stocked: World, copy: bool) -> None:
        """It is told by its row and its name, whoever finds it, and nothing is stored."""
        with pytest.raises(DeclarationError, match=r"bulk\.insert\(\), row 3: 'title' is a SQL expression"):
            async with stocked.shop() as shop:
                await shop.books.bulk.insert([row(1), row(2), {**row(3), "title": func.lower("X")}], copy=copy)
                await shop.commit()

        assert await stored(stocked) == 2

    @ON_SQLITE
    async def test_two_names_of_one_column(self, kinds: World) -> None:
        """One of the values would be lost."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match="row 1: two names are those of one column"):
                await of(shop, Vehicle).bulk.insert([{"name": "a", "title": "b"}])

    @ON_SQLITE
    async def test_a_class_that_wants_to_see_its_objects(self, kinds: World) -> None:
        """None are made."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match=r"@validates of 'name' would not be called; use add_all\(\)"):
                await of(shop, Checked).bulk.insert([{"name": "x"}])
            with pytest.raises(DeclarationError, match="before_insert listener and the after_insert listener"):
                await of(shop, Heard).bulk.insert([{"name": "x"}])

    @ON_SQLITE
    async def test_a_later_chunk(self, stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was sent before cannot be committed, however the error is swallowed."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 2)
        with pytest.raises(TransactionDoomedError):
            async with stocked.shop() as shop:
                with pytest.raises(DeclarationError, match="row 3"):
                    await shop.books.bulk.insert([row(1), row(2), {"titel": "x"}])
                await shop.commit()

        assert await stored(stocked) == 2

    @ON_SQLITE
    async def test_no_rows_at_all(self, stocked: World) -> None:
        """One row is not many."""
        async with stocked.shop() as shop:
            for given in (row(1), BookIn(**row(1)), "rows", 7):
                with pytest.raises(DeclarationError, match="takes many rows"):
                    await shop.books.bulk.insert(given)

    async def test_where_nothing_is_written(self, stocked: World, copy: bool) -> None:
        """Outside of a block, and in one that only reads; the rows are not even looked at."""
        rows = iter([row(1)])
        async with stocked.serving() as shop:
            with pytest.raises(OutsideBlockError):
                await shop.books.bulk.insert(rows, copy=copy)
            async with shop.block(read_only=True):
                with pytest.raises(ReadOnlyError):
                    await shop.books.bulk.insert(rows, copy=copy)

        assert len(list(rows)) == 1

    async def test_constraints(self, stocked: World, copy: bool) -> None:
        """They have the errors that they have everywhere."""
        for bad, kind in (
            ({"sku": "s1"}, UniqueError),
            ({"author_id": 99}, ForeignKeyError),
            ({"title": None}, NotNullError),
        ):
            rows = [row(1), {**row(2), **bad}]
            with pytest.raises(kind) as caught:
                async with stocked.shop() as shop:
                    await shop.books.bulk.insert(rows, copy=copy)
            found: Any = caught.value
            assert kind is not UniqueError or (found.table, found.columns) == ("book", ("sku",))
            if kind is UniqueError and stocked.server == "PostgreSQL":
                assert found.constraint == "uq_book_sku"

        assert await stored(stocked) == 2

    async def test_it_counts_as_a_write(self, stocked: World, copy: bool) -> None:
        """A block that ends without a commit says what was lost."""
        with pytest.raises(FastkitError, match=r"(COPY|INSERT) book"):
            async with stocked.shop() as shop:
                await shop.books.bulk.insert([row(1)], copy=copy)


@ON_POSTGRESQL
class TestCopy:
    """What is different with COPY."""

    @pytest.mark.parametrize("bad", [{"year": "x"}, {"year": 2**40}, {"title": "x" * 201}, {"sku": "s5"}])
    async def test_a_bad_row_of_many(self, stocked: World, bad: dict[str, Any]) -> None:
        """The error tells its number, and nothing is stored."""
        rows = [row(number) for number in range(1, 9001)]
        rows[6999] |= bad
        with pytest.raises((InvalidValueError, UniqueError), match="row 7000") as caught:
            async with stocked.shop() as shop:
                await shop.books.bulk.insert(rows, copy=True)

        assert "x" * 201 not in str(caught.value)
        assert await stored(stocked) == 2

    async def test_a_bad_row_of_a_later_chunk(self, stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its number is that among all that are given, those with fewer columns among them."""
        monkeypatch.setattr("fastkit.repository._batches.CHUNK", 3)
        rows = [row(number, **({"id": None} if number == 4 else {"id": 100 + number})) for number in range(1, 7)]
        rows[4]["year"] = "x"
        with pytest.raises(InvalidValueError, match=r"It is row 5\."):
            async with stocked.shop() as shop:
                await shop.books.bulk.insert(rows, copy=True)

    async def test_a_type_that_puts_sql_around_values(self, kinds: World) -> None:
        """COPY would store them without it; left out, the column is no matter."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match=r"type of blk_tag\.loud puts SQL around each value"):
                await of(shop, Tag).bulk.insert([{"name": "a", "loud": "x"}], copy=True)
            assert await of(shop, Tag).bulk.insert([{"name": "a"}], copy=True) == 1
            await shop.rollback()

    async def test_a_type_that_refuses_a_value(self, kinds: World) -> None:
        """The processor of a type is code of the app: its error is about the row."""
        rows = [{"label": str(n), "made_at": NOON if n != 4 else NOON.replace(tzinfo=None)} for n in range(1, 9)]
        with pytest.raises(InvalidValueError, match="row 4"):
            async with kinds.shop() as shop:
                await of(shop, Thing).bulk.insert(rows, copy=True)

    async def test_a_fault_can_be_undone_by_a_savepoint(self, stocked: World) -> None:
        """The block is doomed, as by any error of a statement, and a savepoint is the part that may fail alone."""
        async with stocked.shop() as shop:
            with pytest.raises(UniqueError):
                async with shop.savepoint():
                    await shop.books.bulk.insert([row(1), row(1)], copy=True)
            await shop.books.bulk.insert([row(2)], copy=True)
            await shop.commit()
        with pytest.raises(TransactionDoomedError):
            async with stocked.shop() as shop:
                with pytest.raises(UniqueError):
                    await shop.books.bulk.insert([row(3), row(3)], copy=True)
                await shop.commit()

        assert await stored(stocked) == 3

    async def test_a_default_that_is_sql(self, kinds: World) -> None:
        """COPY has no place for it; given, the column is one like the others."""
        async with kinds.shop() as shop:
            with pytest.raises(DeclarationError, match=r"default of blk_stamped\.name is SQL"):
                await of(shop, Stamped).bulk.insert([{"id": 1}], copy=True)
        async with kinds.shop() as shop:
            await of(shop, Stamped).bulk.insert([{"id": 1, "name": "y"}], copy=True)
            await shop.rollback()

    async def test_another_schema(self, stocked: World) -> None:
        """Names of all kinds are quoted."""
        engine = rival_engine(stocked)
        with engine.begin() as connection:
            connection.execute(CreateSchema('odd "Schema"'))
            Elsewhere.metadata.create_all(connection)
        async with stocked.shop() as shop:
            assert await of(shop, Leaf).bulk.insert([{"name": "a"}, {"name": None}], copy=True) == 2
            assert sorted(str(each.name) for each in await of(shop, Leaf).all()) == ["None", "a"]
            await shop.rollback()
        with engine.begin() as connection:
            connection.execute(DropSchema('odd "Schema"', cascade=True))
        engine.dispose()

    async def test_a_plain_session(self, stocked: World) -> None:
        """No unit of work is needed; what is pending goes first."""
        engine = rival_engine(stocked)
        with Session(engine) as session:
            session.add(Author(id=7, name="Ovid"))
            assert Repository(session, Book).bulk.insert([row(1), row(2, author_id=7)], copy=True) == 2
            session.commit()
        engine.dispose()

        assert await stored(stocked) == 4

    async def test_cancelled(self, stocked: World) -> None:
        """The pool can be used afterwards, and nothing is stored."""
        if not stocked.driver.is_async:
            pytest.skip("only tasks are cancelled")

        async def work() -> None:
            async with stocked.shop() as shop:
                await shop.books.bulk.insert((row(number) for number in range(200_000)), copy=True)
                await shop.commit()

        for delay in (0.0, 0.01, 0.05, 0.2):
            task = asyncio.create_task(work())
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await stored(stocked) == 2

        assert stocked.checked_out == 0


async def test_copy_elsewhere(stocked: World) -> None:
    """Other databases say that they have none."""
    if stocked.server == "PostgreSQL":
        pytest.skip("it has COPY")
    async with stocked.shop() as shop:
        with pytest.raises(DeclarationError, match="COPY is PostgreSQL's"):
            await shop.books.bulk.insert([row(1)], copy=True)


def test_a_plain_session() -> None:
    """No unit of work is needed."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        books = Repository(session, Book)
        session.add(Author(id=1, name="Jane Austen"))
        assert books.bulk.insert([row(1), row(2)]) == 2
        loaded = books.one(Book.sku == "s1")
        assert books.bulk.update({"stock": Book.stock + 1}, Book.sku == "s1") == 1
        assert loaded.stock == 6
        assert books.bulk.upsert_one(row(1, stock=9), match="sku") is loaded
        assert books.bulk.delete(everything=True) == 2
        assert loaded not in session
        assert session.scalar(select(func.count()).select_from(Book)) == 0
    engine.dispose()
