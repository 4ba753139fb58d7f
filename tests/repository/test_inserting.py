"""`insert` of readers: one row in, its response model out, and the same row as `add` would have stored."""

from __future__ import annotations

import enum
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from colours import awaitable
from conftest import World, book
from pydantic import BaseModel, ConfigDict, Field
from repository.reader_models import Engineer, Gadget, Lower
from repository.scenes import ON_SQLITE, recorded, rival, rival_engine, sync_session
from sqlalchemy import JSON, BigInteger, Enum, Float, MetaData, Numeric, String, Uuid, event, func, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    composite,
    mapped_column,
    relationship,
    synonym,
    validates,
)

from bookshop.models import Author, Book, Customer, UtcDateTime
from fastkit.errors import (
    CheckError,
    DeclarationError,
    ForeignKeyError,
    InvalidValueError,
    NotFoundError,
    NotNullError,
    OutsideBlockError,
    ReadOnlyError,
    RowMismatchError,
    TransactionDoomedError,
    UncommittedChangesError,
    UniqueError,
)
from fastkit.repository import AsyncRepository, Repository
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio

KEY = uuid.UUID(int=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Kinds(DeclarativeBase):
    """The base of what only these tests store."""

    metadata = MetaData()


class Hue(enum.Enum):
    """Stored by name."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Span:
    """Two columns as one value."""

    low: int | None
    high: int | None


class Thing(Kinds):
    """One column of each kind."""

    __tablename__ = "ins_thing"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    label: Mapped[str] = mapped_column("the label", String(20))
    shout: Mapped[str] = mapped_column(Lower, default="Quiet")
    hue: Mapped[Hue] = mapped_column(Enum(Hue, name="ins_hue"), default=Hue.RED)
    data: Mapped[Any] = mapped_column(JSON, default=dict)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: NOON)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default="2.50")
    low: Mapped[int | None] = mapped_column()
    high: Mapped[int | None]
    version: Mapped[int] = mapped_column()
    span: Mapped[Span] = composite("low", "high")
    title: Mapped[str] = synonym("label")
    doubled: Mapped[int | None] = column_property(low * 2)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own


class Gauge(Kinds):
    """A float in front, whose type SQLite takes for that of whatever an INSERT returns."""

    __tablename__ = "ins_gauge"

    level: Mapped[float] = mapped_column(Float(53))
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class Vehicle(Kinds):
    """The base of single-table inheritance."""

    __tablename__ = "ins_vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column("the_kind", String(20))
    name: Mapped[str | None] = mapped_column(String(20))


class Truck(Vehicle):
    """The child: some of the rows."""

    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012 - same

    load: Mapped[int | None]


class Checked(Kinds):
    """Wants to see each value."""

    __tablename__ = "ins_checked"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))

    @validates("name")
    def check(self, key: str, value: str) -> str:
        """Return the value."""
        return value


class Heard(Kinds):
    """Wants to see each row."""

    __tablename__ = "ins_heard"

    id: Mapped[int] = mapped_column(primary_key=True)


@event.listens_for(Heard, "before_insert")
@event.listens_for(Heard, "after_insert")
def _hear(*ignored: Any) -> None:
    """Do nothing."""


class Pet(MappedAsDataclass, Kinds):
    """A dataclass with defaults of all kinds."""

    __tablename__ = "ins_pet"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(String(20), default="Rex")
    tricks: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True), default_factory=lambda: ["sit"])
    age: Mapped[int | None] = mapped_column(default=None)


class Pair(Kinds):
    """A key of two columns, with rows that belong to it."""

    __tablename__ = "ins_pair"

    b: Mapped[int] = mapped_column("b_", primary_key=True, autoincrement=False)
    a: Mapped[str] = mapped_column("a_", String(5), primary_key=True)
    parts: Mapped[list[PairPart]] = relationship(viewonly=True, primaryjoin="foreign(PairPart.b) == Pair.b")


class PairPart(Kinds):
    """What belongs to a pair."""

    __tablename__ = "ins_pair_part"

    id: Mapped[int] = mapped_column(primary_key=True)
    b: Mapped[int]


class BookIn(BaseModel):
    """What a client sends."""

    title: str
    author_id: int = 1
    sku: str = "s"
    year: int = 1815
    language: str = "en"
    price: Decimal = Decimal(10)
    stock: int = 5


class BookOut(Schema):
    """Columns and an expression of the row."""

    id: int
    title: str
    price: Decimal
    worth: Annotated[Decimal, From(Book.price * Book.stock)]


class AuthorOut(Schema):
    """A related row."""

    name: str


class Full(Schema):
    """What the new row alone does not tell."""

    id: int
    author: AuthorOut
    count: Annotated[int, From.count("reviews")]
    stars: Annotated[list[int], From("reviews.stars")]
    reviews: Annotated[list[int], From("reviews.id")]


class Counted(Schema):
    """An expression about another table."""

    title: str
    count: Annotated[int, From.count("reviews")]


class ThingOut(Schema):
    """All that is stored and can be compared."""

    label: str
    shout: str
    hue: Hue
    data: Any
    made_at: datetime
    price: Decimal
    version: int
    span: Any
    doubled: int | None


def of(shop: Any, model: type[Any]) -> Any:
    """Return a repository of a model that the unit does not name."""
    if isinstance(sync_session(shop), Session) and hasattr(shop, "naked"):
        return awaitable(Repository(sync_session(shop), model))
    return AsyncRepository(shop.session, model)


@pytest.fixture
async def kinds(world: World) -> AsyncIterator[World]:
    """Return a database with the tables of these tests."""
    engine = rival_engine(world)
    Kinds.metadata.create_all(engine)
    yield world
    Kinds.metadata.drop_all(engine)
    engine.dispose()


async def stored(world: World) -> int:
    """Return how many books are stored."""
    async with world.shop() as shop:
        return await shop.books.count()


class TestOneStatement:
    """What the row tells comes with the INSERT."""

    @pytest.mark.parametrize("form", ["model", "mapping"])
    async def test_a_row_in_a_model_out(self, stocked: World, form: str) -> None:
        """One statement, and the same as a read gives afterwards."""
        given = BookIn(title="Sanditon")
        async with stocked.shop() as shop:
            with recorded(stocked) as sent:
                out = await shop.books.into(BookOut).insert(given if form == "model" else given.model_dump())
            await shop.commit()
        async with stocked.shop() as shop:
            again = await shop.books.into(BookOut).get_one(out.id)

        assert len(sent) == 1
        assert "RETURNING" in sent[0]
        assert type(out) is BookOut
        assert out == again == BookOut(id=out.id, title="Sanditon", price=Decimal("10.00"), worth=Decimal("50.00"))

    async def test_same_as_an_added_object(self, kinds: World) -> None:
        """Defaults, types and versions are those of a flush."""
        given: dict[str, Any] = {"label": "x", "low": 3, "hue": None, "price": None, "data": {"a": [1]}}
        async with kinds.shop() as shop:
            things = of(shop, Thing)
            things.add(Thing(**given))
            async with shop:
                await shop.commit()
            added = await things.into(ThingOut).one()
            with recorded(kinds) as sent:
                inserted = await things.into(ThingOut).insert(given)
            read = await things.into(ThingOut).all()
            await shop.commit()

        assert len(sent) == 1
        assert inserted == added
        assert read == [added, added]
        assert (inserted.shout, inserted.hue, inserted.price, inserted.version) == ("QUIET", Hue.RED, Decimal("2.5"), 1)
        assert (inserted.made_at, inserted.span, inserted.doubled) == (NOON, Span(3, None), 6)

    async def test_given_values_of_all_kinds(self, kinds: World) -> None:
        """Types convert what is given, by names of attributes and synonyms."""

        class Nested(BaseModel):
            model_config = ConfigDict(populate_by_name=True)
            size: Annotated[int, Field(alias="Size")]

        class ThingIn(BaseModel):
            id: uuid.UUID = KEY
            title: str
            hue: Hue = Hue.BLUE
            data: list[Nested] = [Nested(size=1)]
            shout: str = "LOUD"
            secret: Annotated[str, Field(exclude=True)] = "not stored"

        class Out(ThingOut):
            id: uuid.UUID
            data: list[Nested]

        async with kinds.shop() as shop:
            out = await of(shop, Thing).into(Out).insert(ThingIn(title="named"))
            assert out == await of(shop, Thing).into(Out).get_one(KEY)
            await shop.rollback()

        assert (out.id, out.label, out.hue, out.shout) == (KEY, "named", Hue.BLUE, "LOUD")
        assert out.data == [Nested(size=1)]

    async def test_sql_expressions(self, stocked: World) -> None:
        """The database computes them."""
        values = {
            **BookIn(title="x").model_dump(),
            "title": func.lower("SANDITON"),
            "year": select(func.max(Book.year)),
        }
        values["year"] = values["year"].scalar_subquery() if stocked.server != "MariaDB" else func.abs(-7)
        async with stocked.shop() as shop:
            out = await shop.books.into(BookOut).insert(values)
            await shop.rollback()

        assert out.title == "sanditon"

    async def test_nothing_given(self, kinds: World) -> None:
        """A row of defaults, those of a dataclass among them."""

        class PetOut(Schema):
            name: str
            tricks: list[str]
            age: int | None

        async with kinds.shop() as shop:
            of(shop, Pet).add(Pet())
            first = await of(shop, Pet).into(PetOut).insert({})
            second = await of(shop, Pet).into(PetOut).insert({"tricks": ["roll"], "age": 2})
            assert await of(shop, Pet).order_by(Pet.id).into(PetOut).all() == [first, first, second]
            await shop.rollback()

        assert first == PetOut(name="Rex", tricks=["sit"], age=None)
        assert second == PetOut(name="Rex", tricks=["roll"], age=2)

    async def test_a_class_of_a_table_of_several(self, kinds: World) -> None:
        """What tells the classes apart is written, and cannot be given otherwise."""

        class Out(Schema):
            kind: str
            name: str | None

        async with kinds.shop() as shop:
            truck = await of(shop, Truck).into(Out).insert({"load": 9})
            vehicle = await of(shop, Vehicle).into(Out).insert({"kind": "vehicle", "name": "v"})
            with pytest.raises(DeclarationError, match=r"Vehicle\.kind tells the class"):
                await of(shop, Vehicle).into(Out).insert({"kind": "truck"})
            assert await of(shop, Truck).into(Out).all() == [truck]
            await shop.rollback()

        assert (truck, vehicle) == (Out(kind="truck", name=None), Out(kind="vehicle", name="v"))

    async def test_options_and_order_do_not_matter(self, stocked: World) -> None:
        """A view inserts as its repository does."""
        async with stocked.shop() as shop:
            out = await shop.books.order_by(Book.price.desc()).into(Full).order_by(Book.id).insert(BookIn(title="S"))
            await shop.rollback()

        assert out.author.name == "Jane Austen"


class TestTwoStatements:
    """What the row does not tell is read by its key."""

    async def test_joins_and_lists(self, stocked: World) -> None:
        """Related rows are those of the block."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent:
                out = await shop.books.into(Full).insert(BookIn(title="Sanditon"))
            await shop.commit()

        assert [statement.split()[0] for statement in sent] == ["INSERT", "SELECT", "SELECT", "SELECT"]
        assert out == Full(id=out.id, author=AuthorOut(name="Jane Austen"), count=0, stars=[], reviews=[])

    async def test_a_subquery(self, stocked: World) -> None:
        """No database is asked for it about a row that is not there yet."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent:
                out = await shop.books.into(Counted).insert(BookIn(title="Sanditon"))
            await shop.commit()

        assert len(sent) == 2
        assert out == Counted(title="Sanditon", count=0)

    async def test_a_window_and_a_text(self, stocked: World) -> None:
        """They are about all rows that are there, this one among them."""

        class Out(Schema):
            title: str
            place: Annotated[int, From(func.row_number().over(order_by=Book.id))]

        class Told(Schema):
            title: str
            all: Annotated[int, From(func.coalesce(text("(SELECT count(*) FROM book)"), 0))]

        async with stocked.shop() as shop:
            out = await shop.books.into(Out).insert(BookIn(title="Sanditon"))
            told = await shop.books.into(Told).insert(BookIn(title="Lady Susan", sku="t"))
            await shop.rollback()

        assert (out, told) == (Out(title="Sanditon", place=1), Told(title="Lady Susan", all=4))

    async def test_floats(self, kinds: World) -> None:
        """SQLite would return a whole number for a float, and floats for the others."""

        class Out(Schema):
            level: Any
            id: Any
            number: Any

        async with kinds.shop() as shop:
            with recorded(kinds) as sent:
                out = await of(shop, Gauge).into(Out).insert({"level": 5, "id": 2**60 + 1, "number": 2**60 + 3})
            await shop.rollback()

        assert repr(out) == repr(Out(level=5.0, id=2**60 + 1, number=2**60 + 3))
        assert len(sent) == (2 if kinds.server == "SQLite" else 1)

    async def test_a_key_of_several_columns(self, kinds: World) -> None:
        """They are asked for in their order."""

        class Out(Schema):
            a: str
            b: int
            parts: Annotated[list[int], From("parts.id")]

        async with kinds.shop() as shop:
            out = await of(shop, Pair).into(Out).insert({"a": "x", "b": 7})
            await shop.rollback()

        assert out == Out(a="x", b=7, parts=[])

    async def test_a_database_that_returns_nothing(self, stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The key is the one that the driver knows."""
        async with stocked.shop() as shop:
            await shop.books.count()
            monkeypatch.setattr(stocked.sync_engine.dialect, "insert_returning", False)
            with recorded(stocked) as sent:
                out = await shop.books.into(BookOut).insert(BookIn(title="Sanditon"))
            await shop.rollback()

        assert out.title == "Sanditon"
        assert not any("RETURNING book.id, book.title" in statement for statement in sent)
        assert sent[-1].startswith("SELECT book.id")


class TestTheUnit:
    """It is a write of the block."""

    async def test_the_first_statement_of_a_database(self, stocked: World) -> None:
        """What the database can is known only then."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent:
                await shop.books.into(BookOut).insert(BookIn(title="S"))
            await shop.commit()

        assert len(sent) == 1
        assert await stored(stocked) == 3

    async def test_without_commit(self, stocked: World) -> None:
        """Leaving the block is told, and nothing is stored."""
        with pytest.raises(UncommittedChangesError, match="INSERT book"):
            async with stocked.shop() as shop:
                await shop.books.into(BookOut).insert(BookIn(title="S"))

        assert await stored(stocked) == 2

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_outside_a_block(self, stocked: World, when: str) -> None:
        """Nothing is sent, and no connection is taken."""
        async with stocked.serving() as shop:
            if when == "after":
                async with shop:
                    await shop.commit()
            with pytest.raises(OutsideBlockError, match="async with shop"):
                await shop.books.into(BookOut).insert(BookIn(title="S"))

            assert stocked.checked_out == 0

    async def test_in_a_read_only_block(self, stocked: World) -> None:
        """It is refused before anything is sent."""
        async with stocked.serving() as shop:
            async with shop.block(read_only=True):
                with pytest.raises(ReadOnlyError, match="read-only"):
                    await shop.books.into(BookOut).insert(BookIn(title="S"))

                assert stocked.checked_out == 0

    async def test_a_parent_that_is_pending(self, world: World) -> None:
        """It is flushed first."""
        async with world.shop() as shop:
            shop.authors.add(Author(id=1, name="Ovid"))
            out = await shop.books.into(Full).insert(BookIn(title="Amores"))
            await shop.commit()

        assert out.author.name == "Ovid"

    async def test_in_a_savepoint_and_a_nested_block(self, stocked: World) -> None:
        """What fails in a savepoint is undone alone."""
        async with stocked.shop() as shop:
            with pytest.raises(UniqueError):
                async with shop.savepoint():
                    await shop.books.into(BookOut).insert(BookIn(title="S"))
                    await shop.books.into(BookOut).insert(BookIn(title="S"))
            async with shop:
                out = await shop.books.into(BookOut).insert(BookIn(title="S"))
                await shop.commit()
            await shop.commit()

        assert out.title == "S"
        assert await stored(stocked) == 3

    async def test_in_run(self, stocked: World) -> None:
        """The whole block may be run again."""

        def work(shop: Any) -> Any:
            return shop.books.into(BookOut).insert(BookIn(title="S"))

        async def async_work(shop: Any) -> Any:
            return await work(shop)

        chosen: Any = async_work if stocked.driver.is_async else work
        out = await stocked.database.run(stocked.unit, chosen)

        assert out.title == "S"
        assert await stored(stocked) == 3

    @pytest.mark.parametrize(
        ("values", "error", "columns"),
        [
            ({"sku": "sku-Emma"}, UniqueError, ("sku",)),
            ({"title": "Emma"}, UniqueError, ("author_id", "title")),
            ({"title": None}, NotNullError, ("title",)),
            ({"author_id": 99}, ForeignKeyError, ("author_id",)),
            ({"price": Decimal(-1)}, CheckError, ("price",)),
        ],
    )
    async def test_errors(self, stocked: World, values: Any, error: type[Any], columns: tuple[str, ...]) -> None:
        """They are told as those of a flush, and nothing more can be committed."""
        async with stocked.shop() as shop:
            with pytest.raises(error) as raised:
                await shop.books.into(BookOut).insert({**BookIn(title="S").model_dump(), **values})
            with pytest.raises(TransactionDoomedError):
                await shop.books.into(BookOut).insert(BookIn(title="T"))
            with pytest.raises(TransactionDoomedError):
                await shop.commit()
            await shop.rollback()

        assert raised.value.table in {"book", None}  # SQLite does not tell which foreign key
        assert set(raised.value.columns) in ({*columns}, set())
        assert await stored(stocked) == 2

    async def test_a_value_that_no_column_takes(self, stocked: World) -> None:
        """Text that is too long, or too large a number, where the database minds."""
        async with stocked.shop() as shop:
            with pytest.raises(InvalidValueError):
                await shop.books.into(BookOut).insert({**BookIn(title="S").model_dump(), "stock": 2**80})
            await shop.rollback()

    async def test_a_row_that_does_not_fit(self, stocked: World) -> None:
        """The response model says what it shows; the row is there."""

        class Strict(Schema):
            title: Annotated[str, Field(max_length=1)]

        async with stocked.shop() as shop:
            with pytest.raises(RowMismatchError, match=r"0\.title"):
                await shop.books.into(Strict).insert(BookIn(title="Long"))
            assert await shop.books.count() == 3
            await shop.rollback()

    async def test_a_listener_sees_it(self, stocked: World) -> None:
        """An app that listens to statements hears of this one."""
        seen: list[bool] = []

        async with stocked.shop() as shop:

            def note(state: Any) -> None:
                seen.append(state.is_insert)

            event.listen(sync_session(shop), "do_orm_execute", note)
            out = await shop.books.into(BookOut).insert(BookIn(title="S"))
            await shop.commit()

        assert out.title == "S"
        assert seen == [True]

    async def test_a_trigger_that_keeps_the_row_out(self, kinds: World) -> None:
        """There is nothing to show."""
        if kinds.server != "PostgreSQL":
            pytest.skip("other triggers cannot")
        with rival(kinds) as connection, connection.begin():
            connection.exec_driver_sql(
                "CREATE FUNCTION ins_no() RETURNS trigger AS 'BEGIN RETURN NULL; END' LANGUAGE plpgsql"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER no BEFORE INSERT ON ins_vehicle FOR EACH ROW EXECUTE FUNCTION ins_no()"
            )

        class Out(Schema):
            id: int

        async with kinds.shop() as shop:
            with pytest.raises(NotFoundError):
                await of(shop, Vehicle).into(Out).insert({})
            await shop.rollback()
        with rival(kinds) as connection, connection.begin():
            connection.exec_driver_sql("DROP FUNCTION ins_no() CASCADE")


class Id(Schema):
    """Any row with a key."""

    id: Any


@ON_SQLITE
class TestRefused:
    """What can never work is told before anything is sent."""

    @pytest.mark.parametrize(
        ("model", "values", "message"),
        [
            (Book, {"titel": "x"}, r"Book has no attribute 'titel'; did you mean 'title'\?"),
            (Book, {"qqqqqq": "x"}, r"Book has no attribute 'qqqqqq'\.$"),
            (Book, {"author": None}, r"Book\.author is a relationship: give its foreign key \(author_id\), or use add"),
            (Book, {"reviews": []}, r"Book\.reviews is a relationship: use add\(\)"),
            (Thing, {"span": Span(1, 2)}, r"Thing\.span is a composite: give what it is made of \(low, high\)"),
            (Thing, {"doubled": 2}, r"Thing\.doubled is no column"),
            (Thing, {"label": "x", "title": "y"}, "two names of Thing are those of one column"),
            (Gadget, {"pieces": []}, r"Gadget\.pieces is no column"),
            (Engineer, {}, "rows of Engineer are not those of one table; use add"),
            (
                Checked,
                {"name": "x"},
                r"no Checked is made, so the @validates of 'name' would not be called; use add\(\)",
            ),
            (Heard, {}, "so the before_insert listener and the after_insert listener would not be called"),
            (Book, Author(name="x"), "takes a Pydantic model or a mapping, not Author"),
            (Book, [("title", "x")], "not list"),
        ],
    )
    async def test_with_words(self, stocked: World, model: type[Any], values: Any, message: str) -> None:
        """The error says what to give, or to use `add`; the block goes on."""
        async with stocked.shop() as shop:
            with recorded(stocked) as sent, pytest.raises(DeclarationError, match=message):
                await of(shop, model).into(Id).insert(values)
            await shop.commit()

        assert sent == []

    async def test_an_abstract_class(self, stocked: World) -> None:
        """Rows are of the classes below it."""

        class Shapes(DeclarativeBase):
            pass

        class Shape(Shapes):
            __tablename__ = "ins_shape"
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_abstract": True}  # noqa: RUF012 - same
            id: Mapped[int] = mapped_column(primary_key=True)
            kind: Mapped[str]

        async with stocked.shop() as shop:
            with pytest.raises(DeclarationError, match="Shape is abstract"):
                await of(shop, Shape).into(Id).insert({})

    def test_a_plain_session(self, stocked: World) -> None:
        """Repositories of sessions without a unit insert as well, after a flush."""
        engine = rival_engine(stocked)
        with Session(engine) as session:
            session.add(Author(id=7, name="Ovid"))
            out = Repository(session, Book).into(Full).insert(BookIn(title="Amores", author_id=7))
            alone = Repository(session, Customer).into(Id).insert({"name": "n", "email": "e"})
        engine.dispose()

        assert out.author.name == "Ovid"
        assert isinstance(alone.id, int)


async def test_many_forms_of_one_model(stocked: World) -> None:
    """Each set of names is a statement of its own."""
    whole = BookIn(title="x").model_dump()
    forms: list[Callable[[int], dict[str, Any]]] = [
        lambda n: {**whole, "title": f"a{n}", "sku": f"a{n}"},
        lambda n: {**whole, "title": f"b{n}", "sku": f"b{n}", "id": 900 - n},
    ]
    async with stocked.shop() as shop:
        found = [await shop.books.into(BookOut).insert(form(n)) for n in range(3) for form in forms]
        shop.books.add(book(None, "last", author_id=1))
        await shop.commit()

    assert [each.title for each in found] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [each.id for each in found[1::2]] == [900, 899, 898]
    assert await stored(stocked) == 9
