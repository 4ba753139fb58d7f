"""Windows, streams and totals where models, sort keys and sessions are unusual."""

from __future__ import annotations

import gc
import weakref
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated, Any
from uuid import UUID

import pytest
from conftest import SECRET, World, book
from pydantic import BaseModel, ConfigDict, SecretStr
from repository.scenes import ON_SQLITE, OUTSIDE, recorded, rival_engine, scene
from servers import DRIVERS
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    Interval,
    MetaData,
    Select,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    outerjoin,
    select,
    text,
    tuple_,
    type_coerce,
)
from sqlalchemy.dialects import mysql, postgresql, registry
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    Session,
    composite,
    joinedload,
    mapped_column,
    relationship,
    with_loader_criteria,
)
from sqlalchemy.sql.expression import FunctionElement

from bookshop.models import Author, Book
from fastkit.database import Database
from fastkit.errors import DeclarationError, InvalidCursorError
from fastkit.pages import CountUpTo, Page, PageQuery, Signer, WindowQuery
from fastkit.repository import Equals, ListQuery, OneOf, Range, Repository, Sort, Where, _keyset
from fastkit.repository._explanation import wanted
from fastkit.repository._keyset import Keyset
from fastkit.responses import links

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The base of what is unusual everywhere."""

    metadata = MetaData()


LEFT = Table("wa_left", Base.metadata, Column("id", Integer, primary_key=True))
RIGHT = Table(
    "wa_right",
    Base.metadata,
    Column("right_id", Integer, primary_key=True),
    Column("left_id", ForeignKey("wa_left.id")),
    Column("rank", Integer, nullable=False),
)


class Joined(Base):
    """A model of a join, in which a column that is never NULL may be."""

    __table__ = outerjoin(LEFT, RIGHT, LEFT.c.id == RIGHT.c.left_id)
    __mapper_args__ = {"primary_key": [LEFT.c.id]}  # noqa: RUF012 - SQLAlchemy's own


class Worker(ConcreteBase, Base):
    """A model of several tables, whose keys may be the same."""

    __tablename__ = "wa_worker"
    __mapper_args__ = {"polymorphic_identity": "worker", "concrete": True}  # noqa: RUF012 - SQLAlchemy's own
    id: Mapped[int] = mapped_column(primary_key=True)


class Boss(Worker):
    """In the other table."""

    __tablename__ = "wa_boss"
    __mapper_args__ = {"polymorphic_identity": "boss", "concrete": True}  # noqa: RUF012 - SQLAlchemy's own
    id: Mapped[int] = mapped_column(primary_key=True)


class Span:
    """A value of two columns."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __composite_values__(self) -> tuple[int, int]:
        return self.start, self.end


class Shape(Base):
    """Related rows of a subclass, and a value of two columns."""

    __tablename__ = "wa_shape"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "s", "with_polymorphic": "*"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(5))
    start: Mapped[int]
    end: Mapped[int]
    span: Mapped[Span] = composite("start", "end")


class Polygon(Shape):
    """With a list that is loaded by a join."""

    __mapper_args__ = {"polymorphic_identity": "p"}  # noqa: RUF012 - SQLAlchemy's own
    corners: Mapped[list[Corner]] = relationship(lazy="joined")


class Corner(Base):
    """What is in the list."""

    __tablename__ = "wa_corner"
    id: Mapped[int] = mapped_column(primary_key=True)
    shape_id: Mapped[int] = mapped_column(ForeignKey("wa_shape.id"))


@pytest.fixture
def session() -> Any:
    """Return a plain session on a database of odd tables."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine, info={"fastkit.signer": Signer([SECRET])}) as session:
        yield session
    engine.dispose()


def walk(session: Session, model: Any, *ordering: Any) -> list[Any]:
    """Return the rows of all windows of one, forward, after they were compared with those backward and a stream."""
    read, window = Repository(session, model).order_by(*ordering), None
    found: list[Any] = []
    while window is None or window.next_cursor is not None:
        window = read.window(WindowQuery(size=1, cursor=window.next_cursor if window else None))
        found += window.items
        assert len(found) < 50, "the walk does not end"
    back = list(window.items)
    while window.previous_cursor is not None:
        window = read.window(WindowQuery(size=1, cursor=window.previous_cursor))
        back = [*window.items, *back]
        assert len(back) < 50, "the walk does not end"
    assert back == found
    assert list(read.stream(batch=1)) == found
    return found


# -- models


def test_a_column_of_an_outer_join_may_be_null(session: Session) -> None:
    """Whatever its table says."""
    session.execute(insert(LEFT), [{"id": key} for key in range(1, 6)])
    session.execute(insert(RIGHT), [{"right_id": key, "left_id": key, "rank": 9 - key} for key in (2, 4)])

    assert [each.id for each in walk(session, Joined, Joined.rank)] == [1, 3, 5, 4, 2]


def test_rows_of_several_tables_with_equal_keys(session: Session) -> None:
    """Are told apart by what they are."""
    session.add_all([Worker(id=1), Boss(id=1), Worker(id=2), Boss(id=2)])
    session.flush()

    assert [(each.id, type(each)) for each in walk(session, Worker)] == [(1, Boss), (1, Worker), (2, Boss), (2, Worker)]


def test_a_list_of_a_subclass_that_is_joined(session: Session) -> None:
    """Takes no rows away."""
    session.add_all([Polygon(id=1, start=0, end=0, corners=[Corner(id=1), Corner(id=2)]), Shape(id=2, start=0, end=0)])
    session.flush()

    assert [each.id for each in walk(session, Shape)] == [1, 2]
    assert len(Repository(session, Shape).all()) == 2


# -- sort keys


class Distance(FunctionElement[int]):
    """What only some databases know."""

    inherit_cache = True
    type = Integer()


@compiles(Distance, "sqlite")
def _distance(element: Any, compiler: Any, **options: Any) -> str:
    return "1"


def test_a_construct_of_one_dialect(session: Session) -> None:
    """Is compiled for that."""
    session.add_all([Worker(id=1), Worker(id=2)])
    session.flush()

    assert len(walk(session, Worker, Distance())) == 2


@pytest.mark.parametrize(
    "key",
    [
        Shape.span,
        tuple_(Shape.start, Shape.end),
        func.row_number().over(order_by=Shape.id),
        type_coerce(Shape.id, JSON),
        type_coerce(Shape.id, ARRAY(Integer)),
    ],
)
def test_what_is_no_value_of_a_row(session: Session, key: Any) -> None:
    """Is refused by name, before anything is sent."""
    with pytest.raises(DeclarationError, match="A window"):
        Repository(session, Shape).order_by(key).window(WindowQuery())


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.name == "mariadb+pymysql"], indirect=True)
@pytest.mark.filterwarnings("ignore:Type object .* does not refer to an OperatorClass")
async def test_what_mariadb_sorts_by_number(world: World) -> None:
    """A SET and a BIT are compared by number too."""

    class Odd(DeclarativeBase):
        """The base of one."""

    class Numbered(Odd):
        """With a column of each."""

        __tablename__ = "wa_numbered"
        id: Mapped[int] = mapped_column(primary_key=True)
        some: Mapped[Any] = mapped_column(mysql.SET("z", "b", "a"))
        bits: Mapped[Any] = mapped_column(mysql.BIT(12))

    with on_rival(world, Odd) as session:
        rows = [("z,b", 300), ("a", 10), ("b", 9), ("z", 400), ("a", 300), ("z,b,a", 2)]
        session.execute(
            insert(Numbered), [{"id": k, "some": {*s.split(",")}, "bits": b} for k, (s, b) in enumerate(rows, 1)]
        )
        for keys in [(Numbered.some,), (Numbered.bits,), (Numbered.bits.desc(), Numbered.some)]:
            expected = session.scalars(select(Numbered).order_by(*keys, Numbered.id)).all()
            assert walk(session, Numbered, *keys) == list(expected)


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.name == "postgresql+psycopg"], indirect=True)
async def test_what_postgresql_compares_in_its_own_way(world: World) -> None:
    """A year is 360 days to it, and 365 to drivers; a rank has four bytes; not a number is the greatest."""

    class Odd(DeclarativeBase):
        """The base of one."""

    class Timed(Odd):
        """With a column of each."""

        __tablename__ = "wa_timed"
        id: Mapped[int] = mapped_column(primary_key=True)
        lasts: Mapped[timedelta] = mapped_column(Interval)
        real: Mapped[float] = mapped_column(postgresql.REAL)
        host: Mapped[Any] = mapped_column(postgresql.INET)

    with on_rival(world, Odd) as session:
        rows = ["'1 year', 0.1, '10.0.0.1'", "'362 days', 'NaN', '10.0.0.0/8'", "'363 days', '-Infinity', '::1'"]
        for key, row in enumerate([*rows, "'1 year', 1.1, '10.0.0.1'"]):
            session.execute(text(f"INSERT INTO wa_timed VALUES ({key}, {row})"))
        rank = func.ts_rank(
            func.to_tsvector("english", func.concat("cat ", Timed.id)), func.to_tsquery("english", "cat")
        )
        for keys in [
            (Timed.lasts,),
            (Timed.real.desc(),),
            (rank.desc(),),
            (func.abs(Timed.real), Timed.lasts),
            (Timed.host,),
        ]:
            expected = session.scalars(select(Timed).order_by(*keys, Timed.id)).all()
            assert walk(session, Timed, *keys) == list(expected)


class on_rival:  # noqa: N801 - a context manager
    """A plain session on the server of a world, with tables of its own that are dropped at the end."""

    def __init__(self, world: World, base: Any) -> None:
        self._engine: Engine = rival_engine(world)
        self._base = base

    def __enter__(self) -> Session:
        self._base.metadata.create_all(self._engine)
        self._session = Session(self._engine, info={"fastkit.signer": Signer([SECRET])})
        return self._session

    def __exit__(self, *error: object) -> None:
        self._session.close()
        self._base.metadata.drop_all(self._engine)
        self._engine.dispose()


# -- cursors


def test_constants_of_the_order_are_part_of_it(session: Session) -> None:
    """Lists by the distance from two places are two lists."""
    session.add_all([Worker(id=key) for key in range(1, 5)])
    session.flush()
    workers = Repository(session, Worker)
    near = workers.order_by(func.abs(Worker.id - 2)).window(WindowQuery(size=2))

    with pytest.raises(InvalidCursorError):
        workers.order_by(func.abs(Worker.id - 3)).window(WindowQuery(cursor=near.next_cursor))
    assert workers.order_by(func.abs(Worker.id - 2)).window(WindowQuery(cursor=near.next_cursor)).items


def test_where_null_stands_is_part_of_the_order(session: Session) -> None:
    """Rows would be lost on the way from one list into the other."""
    session.execute(insert(LEFT), [{"id": key} for key in range(1, 4)])
    rows = Repository(session, Joined)
    first, last = rows.order_by(Joined.rank.nulls_first()), rows.order_by(Joined.rank.nulls_last())
    cursor = first.window(WindowQuery(size=1)).next_cursor

    for other in (last, rows.order_by(Joined.rank)):
        with pytest.raises(InvalidCursorError):
            other.window(WindowQuery(cursor=cursor))
    assert len(first.window(WindowQuery(cursor=cursor)).items) == 2


def test_keys_that_are_remembered_are_kept() -> None:
    """Or others would be taken for them, as soon as they stand in the same place of the memory."""
    dialect: Any = registry.load("sqlite")()
    key = Shape.start.desc()
    kept = weakref.ref(key)
    Keyset.of(Shape, [key], dialect)
    del key
    gc.collect()

    assert kept() is not None


def test_an_order_is_remembered_for_each_kind_of_database() -> None:
    """The same keys put NULL in another place, and their values come back in another way."""
    names = ["sqlite", "postgresql.asyncpg", "postgresql.psycopg", "sqlite"]
    dialects: list[Any] = [registry.load(name)() for name in names]
    ordering = [Joined.rank]
    keys = [Keyset.of(Joined, ordering, dialect).keys[0] for dialect in dialects]

    assert [key.nulls for key in keys] == [True, False, False, True]
    assert keys[1].exact != keys[2].exact


def test_a_cursor_is_of_one_class(session: Session) -> None:
    """Though another one has the same table and the same keys."""
    session.add_all([Polygon(id=key, start=0, end=0) for key in (1, 2, 3)])
    session.flush()
    window = Repository(session, Shape).window(WindowQuery(size=1))

    with pytest.raises(InvalidCursorError):
        Repository(session, Polygon).window(WindowQuery(cursor=window.next_cursor))
    assert len(Repository(session, Shape).window(WindowQuery(cursor=window.next_cursor)).items) == 2


def test_a_cursor_has_one_spelling() -> None:
    """Base64 has several."""
    signer = Signer([SECRET])
    cursor = signer.write("x", [1, "é"])

    assert signer.read("x", cursor) == [1, "é"]
    for other in (cursor + "****", cursor + "====", f" {cursor}", f"{cursor}\n", cursor[:5] + "!!!!" + cursor[5:]):
        with pytest.raises(InvalidCursorError):
            signer.read("x", other)


def test_a_cursor_is_read_for_years() -> None:
    """Its bytes do not change: 16 of the signature, which tell the context from what follows it, and the values."""
    signer, cursor = Signer(["k" * 32]), "vZv37CYxyksrvXLnIUkOLFsxLCLDqSIsbnVsbF0"

    assert signer.write("list", [1, "é", None]) == cursor
    assert signer.read("list", cursor) == [1, "é", None]
    for other in ("list[", "lis", ""):
        with pytest.raises(InvalidCursorError):
            signer.read(other, cursor)


def test_a_cursor_has_room_for_texts() -> None:
    """Of any alphabet, and for what drivers give."""
    signer = Signer([SECRET])
    values = [
        "漢" * 900,
        ip_address("::1"),
        ip_interface("10.0.0.1/8"),
        ip_network("10.0.0.0/8"),
        Decimal("1.50"),
        None,
        datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1))),
        datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001 - a column without a zone
        date(2024, 2, 29),
        time(1, 2, 3, 4),
        timedelta(days=-1, seconds=2, microseconds=3),
        UUID(int=7),
        b"\x00\xff",
        0.1 + 0.2,
        True,
    ]

    assert signer.read("x", signer.write("x", values[:1])) == values[:1]
    assert signer.read("x", signer.write("x", values[1:])) == values[1:]
    with pytest.raises(DeclarationError, match="too long"):
        signer.write("x", ["x" * 4096])
    with pytest.raises(DeclarationError, match="No cursor can hold a dict"):
        signer.write("x", [{}])


class Genre(Enum):
    """A kind."""

    NOVEL = "n"
    POEM = "p"


class OddQuery(ListQuery[Book]):
    """Filters whose values are not those of JSON."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    language: OneOf[str] = None
    price: Range[Decimal] = None
    title: Equals[bytes] = None
    tags: Annotated[set[str] | None, Where(lambda tags: Book.id > 0)] = None
    secret: Annotated[SecretStr | None, Where(lambda secret: Book.id > 0)] = None
    genre: Annotated[Genre | None, Where(lambda genre: Book.id > 0)] = None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"language": ["en", "de"]}, {"language": ["de", "en"]}, True),
        ({"tags": {"a", "b", "c"}}, {"tags": {"c", "b", "a"}}, True),
        ({"tags": {"a", "b"}}, {"tags": {"a", "c"}}, False),
        ({"price": {"min": "10"}}, {"price": {"min": "10.00"}}, True),
        ({"price": {"min": "10"}}, {"price": {"max": "10"}}, False),
        ({"secret": "x"}, {"secret": "y"}, False),
        ({"title": b"\xc9"}, {"title": b"\xc8"}, False),
        ({"genre": "n"}, {"genre": "p"}, False),
    ],
)
def test_equal_filters_are_the_same_list(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    """And no others, whatever their values are."""
    texts = [OddQuery.model_validate(each).filters_of_window() for each in (one, other)]

    assert (texts[0] == texts[1]) is same


def test_queries_of_other_classes_are_other_lists() -> None:
    """Though their fields have the same names and values."""

    class Other(ListQuery[Book]):
        """With a filter of the same name."""

        language: Equals[str] = None

    assert Other(language="en").filters_of_window() != OddQuery(language=["en"]).filters_of_window()


# -- sessions


async def test_objects_that_were_loaded_before_the_block(stocked: World) -> None:
    """Are read again by windows and streams, too, with lists that are joined."""
    async with stocked.serving() as shop:
        before = await shop.authors.all()  # kept, or the session forgets them
        async with shop:
            view = shop.authors.with_options(joinedload(Author.books)).order_by(Author.name.desc())
            window = await view.window(WindowQuery(size=2))
            assert window.items == before
            assert len(window.items[0].books) == 2
            await shop.rollback()


def test_a_session_that_chooses_its_engine_by_model() -> None:
    """Has the dialect of that one."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(binds={Worker: engine}, info={"fastkit.signer": Signer([SECRET])}) as session:
        assert walk(session, Worker) == []


# -- totals


async def test_totals_keep_to_the_criteria_of_the_view(stocked: World) -> None:
    """However they are found."""
    async with stocked.shop() as shop:
        shop.books.add_all(book(key, f"B{key}", author_id=1, year=2000) for key in range(3, 9))
        await shop.commit()
    async with scene(stocked, OUTSIDE) as at:
        view = at.shop.books.with_options(with_loader_criteria(Book, Book.year == 2000))
        for count in ("exact", CountUpTo(100)):
            assert (await view.page(PageQuery(size=1), count=count)).total == 6


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.server == "PostgreSQL"], indirect=True)
async def test_an_estimate_is_of_what_a_listener_lets_through(stocked: World) -> None:
    """As every other query is."""
    async with scene(stocked, OUTSIDE) as at:
        session = getattr(at.shop.session, "naked", at.shop.session)
        session = getattr(session, "sync_session", session)

        def narrowed(state: ORMExecuteState) -> None:
            assert isinstance(state.statement, Select)
            state.statement = state.statement.options(with_loader_criteria(Book, Book.id < 0))

        event.listen(session, "do_orm_execute", narrowed)
        with recorded(stocked) as sent:
            await at.shop.books.page(PageQuery(size=2, page=3), count="estimated")
        event.remove(session, "do_orm_execute", narrowed)

        assert sent[-1].startswith("EXPLAIN (FORMAT JSON)")
        assert "WHERE book.id <" in sent[-1]


@ON_SQLITE
async def test_a_wrong_count_is_told_by_the_first_page(stocked: World) -> None:
    """Though all rows are on it."""
    async with scene(stocked, OUTSIDE) as at:
        for read in (at.shop.books, at.shop.books.into(BookOut)):
            for count in ("estimated", "exakt"):
                with pytest.raises(DeclarationError, match="a total is"):
                    await read.page(PageQuery(), count=count)


async def test_a_counted_page_leads_to_the_next_one(stocked: World) -> None:
    """As long as there are rows, also beyond what is counted."""
    from starlette.datastructures import URL

    async with stocked.shop() as shop:
        shop.books.add_all(book(key, f"B{key}", author_id=1) for key in range(3, 10))
        await shop.commit()
    async with scene(stocked, OUTSIDE) as at:
        for read in (at.shop.books, at.shop.books.into(BookOut)):
            totals = []
            for number in (1, 2, 3):
                page: Page[Any] = await read.page(PageQuery(page=number, size=3), count=CountUpTo(3))
                totals.append(page.total)
                assert len(page.items) == 3
                assert ('rel="next"' in links(URL("/books"), page)) is (number < 3)
            assert totals == [4, 7, 9]


class BookOut(BaseModel):
    """What is shown."""

    id: int


# -- what is told


def test_an_index_that_does_not_serve() -> None:
    """One of some rows, of the beginnings of texts, without order."""

    class Odd(DeclarativeBase):
        """The base of one."""

    class Place(Odd):
        """With such indexes."""

        __tablename__ = "wa_place"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        rank: Mapped[int]
        code: Mapped[int]
        __table_args__ = (
            Index("ix_some", "rank", "id", postgresql_where=text("rank > 0"), sqlite_where=text("rank > 0")),
            Index("ix_cut", "name", "id", mysql_length={"name": 5}),
            Index("ix_hash", "code", postgresql_using="hash"),
        )

    def told(name: str, key: Any) -> str:
        dialect: Any = registry.load(name)()
        return wanted(Keyset.of(Place, [key], dialect), Place, dialect)

    assert "wants an index" in told("postgresql", Place.rank)
    assert "wants an index" in told("sqlite", Place.rank)
    assert "wants an index" in told("mysql", Place.name)
    assert "has the index" in told("sqlite", Place.name)
    assert "wants an index" in told("postgresql", Place.code)


def test_a_database_knows_its_keys() -> None:
    """And one without has none."""
    assert Database("sqlite:///x.db").signer is None
    assert Database("sqlite:///x.db", cursor_keys=[SECRET]).signer is not None


def test_what_is_remembered_has_a_bound() -> None:
    """Orders that are made anew for each request do not pile up; those of a query class are made once."""
    dialect: Any = registry.load("sqlite")()
    for number in range(1000):
        Keyset.of(Worker, [func.abs(Worker.id - number)], dialect)
    assert len(_keyset._known) <= 256

    class Sorted(ListQuery[Book]):
        """With a sort key."""

        sort = Sort("title", "year", default="-title")

    for number in range(300):
        Sorted(sort=",".join(["title"] * (number % 30 + 1))).ordering()
    assert Keyset.of(Book, Sorted().ordering(), dialect) is Keyset.of(Book, Sorted().ordering(), dialect)
    assert len(Sorted.sort._known) <= 128


async def test_two_windows_of_one_shape_are_compiled_once(stocked: World) -> None:
    """Whatever their cursors hold."""
    async with stocked.shop() as shop:
        shop.books.add_all(book(key, f"B{key}", author_id=1) for key in range(3, 10))
        await shop.commit()
    async with scene(stocked, OUTSIDE) as at:
        reader, cursors = at.shop.books.order_by(Book.title.desc()).into(BookOut), [None]
        stocked.sync_engine.clear_compiled_cache()
        for size in (1, 1, 1, 2, 1, 1):
            cursors.append((await reader.window(WindowQuery(size=size, cursor=cursors[-1]))).next_cursor)
        # The first one; those that go on, by what they consist of, and from the second on by which statement it is.
        assert len(stocked.sync_engine._compiled_cache) == 3
