"""The shared half of the bookshop example: models, schemas, ordering and catalogue."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy.pool import NullPool

from bookshop import ordering
from bookshop.catalogue import classics, generate
from bookshop.models import Author, Base, Book, Customer, Order, OrderLine, Payment, Review
from bookshop.schemas import BookIn, BookOut, CustomerIn, OrderIn, OrderOut, ReviewIn

NOW = datetime(2026, 1, 31, 9, 30, 0, 123456, tzinfo=UTC)
SERVERS = {
    "postgresql": ("postgresql+psycopg", os.environ.get("FASTKIT_POSTGRES", "postgres:@127.0.0.1:5432/test")),
    "mariadb": ("mariadb+pymysql", os.environ.get("FASTKIT_MARIADB", "root:@127.0.0.1:3306/test")),
}


@contextmanager
def server(name: str) -> Generator[Engine]:
    """Yield an engine for an empty database on a real server, and drop the database afterwards."""
    driver, address = SERVERS[name]
    url = make_url(f"{driver}://{address}")
    admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    charset = " CHARACTER SET utf8mb4" if name == "mariadb" else ""
    database = f"fk_shared_test_{os.getpid()}"  # runs side by side must not drop each other's database
    try:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {database}"))
            connection.execute(text(f"CREATE DATABASE {database}{charset}"))
    except OperationalError:
        if os.environ.get("FASTKIT_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(f"{name} is not reachable")
    try:
        with disposed(url.set(database=database)) as engine:
            yield engine
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {database}"))


@contextmanager
def disposed(url: URL | str) -> Generator[Engine]:
    """Yield an engine with all tables, and close its connections afterwards."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", enforce_foreign_keys)
    try:
        Base.metadata.create_all(engine)
        yield engine
    finally:
        engine.dispose()


def enforce_foreign_keys(connection: Any, _record: object) -> None:
    """Ask SQLite to check foreign keys, which it does not do by itself."""
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA foreign_keys=ON")


@pytest.fixture(name="engine", params=["sqlite", *SERVERS])
def _engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = disposed(f"sqlite:///{tmp_path}/shop.db") if request.param == "sqlite" else server(request.param)
    with made as engine:
        yield engine


@pytest.fixture(name="sqlite")
def _sqlite(tmp_path: Path) -> Iterator[Engine]:
    with disposed(f"sqlite:///{tmp_path}/shop.db") as engine:
        yield engine


def book(id_: int, *, stock: int = 5, price: str = "9.90") -> Book:
    """Return a book that no database knows."""
    return Book(
        id=id_,
        sku=f"B{id_}",
        title=f"Book {id_}",
        year=1900,
        language="en",
        price=Decimal(price),
        stock=stock,
    )


def customer(*, blocked: bool = False) -> Customer:
    """Return a customer that no database knows."""
    return Customer(name="Ada", email="ada@example.com", blocked=blocked)


def fill(connection: Connection, count: int, *, first: int = 1_000_001) -> None:
    """Insert *count* generated books and all around them."""
    for table, rows in generate(count, first=first):
        connection.execute(insert(table), rows)


def counted(session: Session, model: type[Base]) -> int:
    """Return the number of rows of *model*."""
    return session.scalars(select(func.count()).select_from(model)).one()


class TestOrdering:
    """The pure domain."""

    def test_place_takes_stock_and_sums(self) -> None:
        """An order lists its books at today's price, sums them and takes the copies out of stock."""
        ada, books = customer(), [book(1, price="9.90"), book(2, price="0.10")]

        order = ordering.place(ada, books, {1: 2, 2: 3}, now=NOW)

        assert order.customer is ada
        assert order.placed_at == NOW
        assert order.total == Decimal("20.10")
        assert [(line.book, line.quantity, line.price) for line in order.lines] == [
            (books[0], 2, Decimal("9.90")),
            (books[1], 3, Decimal("0.10")),
        ]
        assert [each.stock for each in books] == [3, 2]

    def test_the_last_copy_can_be_ordered(self) -> None:
        """A quantity that equals the stock is not a shortage."""
        books = [book(1, stock=2)]

        ordering.place(customer(), books, {1: 2}, now=NOW)

        assert books[0].stock == 0

    def test_shortages_names_the_books(self) -> None:
        """shortages() returns the books of which too few are left, and nothing else."""
        few, enough, unasked = book(1, stock=1), book(2), book(3, stock=0)

        assert ordering.shortages([few, enough, unasked], {1: 2, 2: 5}) == [few]

    def test_unknown_names_the_numbers(self) -> None:
        """unknown() returns the numbers that no book has, in order."""
        assert ordering.unknown([book(2)], {3: 1, 2: 1, 1: 1}) == [1, 3]

    def test_total_of_nothing_is_zero(self) -> None:
        """total() of no lines is zero with two decimals."""
        assert str(ordering.total([])) == "0.00"

    @pytest.mark.parametrize(
        ("blocked", "ids", "lines"),
        [
            pytest.param(True, [1], {1: 1}, id="blocked"),
            pytest.param(False, [], {}, id="no lines"),
            pytest.param(False, [1], {1: 1, 2: 1}, id="book missing"),
            pytest.param(False, [1, 2], {1: 1}, id="book too many"),
            pytest.param(False, [1, 1], {1: 1}, id="book twice"),
            pytest.param(False, [1], {1: 0}, id="zero"),
            pytest.param(False, [1], {1: -1}, id="negative"),
            pytest.param(False, [1], {1: 6}, id="shortage"),
            pytest.param(False, [1, 2], {1: 1, 2: 6}, id="second book short"),
        ],
    )
    def test_place_refuses_what_was_not_validated(
        self,
        blocked: bool,
        ids: Sequence[int],
        lines: dict[int, int],
    ) -> None:
        """place() raises ValueError for what a service should have validated, and changes nothing."""
        books = [book(id_) for id_ in ids]

        with pytest.raises(ValueError, match="before place"):
            ordering.place(customer(blocked=blocked), books, lines, now=NOW)

        assert all(each.stock == 5 for each in books)


class TestClassics:
    """The real books."""

    def test_many_books_and_no_book_twice(self) -> None:
        """There are at least 130 books, each once, by authors that are named once."""
        authors = classics()
        titles = [(author.name, each.title) for author in authors for each in author.books]

        assert len(titles) >= 130
        assert len(set(titles)) == len(titles)
        assert len({author.name for author in authors}) == len(authors)
        assert max(len(author.books) for author in authors) >= 5

    def test_values_are_plausible(self) -> None:
        """Years, languages, prices, stock and lengths are what the input schema accepts."""
        books = [each for author in classics() for each in author.books]

        for each in books:
            BookIn(
                author_id=1,
                **{name: getattr(each, name) for name in BookIn.model_fields if name != "author_id"},
            )
        assert min(each.year for each in books) < -500
        assert max(each.year for each in books) < 2000
        assert all(each.year for each in books)
        assert len({each.language for each in books}) >= 15
        assert len({each.sku for each in books}) == len(books)

    def test_the_catalogue_is_clean(self) -> None:
        """The file is sorted by year and has no stray spaces."""
        lines = Path(ordering.__file__).with_name("catalogue.csv").read_text(encoding="utf-8").splitlines()
        years = [int(line.split(",")[-2]) for line in lines[1:]]

        assert lines[0] == "title,author,year,language"
        assert years == sorted(years)
        assert all(cell == cell.strip() for line in lines for cell in line.replace(", ", "").split(","))

    def test_the_same_each_time(self) -> None:
        """Two calls give new objects with the same prices and stock."""
        one, two = ([each for author in classics() for each in author.books] for _ in range(2))

        assert [(b.sku, b.price, b.stock) for b in one] == [(b.sku, b.price, b.stock) for b in two]
        assert one[0] is not two[0]


class TestGenerate:
    """The made-up rows."""

    def test_all_constraints_hold(self, engine: Engine) -> None:
        """The classics and 2,000 generated books go into every database, with foreign keys enforced."""
        with Session(engine) as session, session.begin():
            session.add_all(classics())
            session.flush()
            authors, books = counted(session, Author), counted(session, Book)
            fill(session.connection(), 2_000)
            wrong = select(Order.id).join(Order.lines).group_by(Order.id, Order.total)
            wrong = wrong.having(func.abs(func.sum(OrderLine.price * OrderLine.quantity) - Order.total) > 0.001)

            assert counted(session, Author) == authors + 200
            assert counted(session, Book) == books + 2_000
            assert counted(session, Customer) == 400
            assert counted(session, Order) == 1_000
            assert counted(session, Review) == 2_000
            assert session.scalars(wrong).all() == []

    def test_the_same_seed_gives_the_same_rows(self) -> None:
        """The arguments decide every value; another seed gives other values."""
        assert list(generate(1_500, seed=3)) == list(generate(1_500, seed=3))
        assert list(generate(1_500, seed=3)) != list(generate(1_500, seed=4))

    def test_parts_with_different_ids_fit_together(self, sqlite: Engine) -> None:
        """Two calls whose ids do not overlap live side by side."""
        with Session(sqlite) as session:
            fill(session.connection(), 30, first=1)
            fill(session.connection(), 30, first=31)

            assert counted(session, Book) == 60

    @pytest.mark.parametrize("count", [0, 1, 7, 999, 1_000, 1_001])
    def test_any_count(self, sqlite: Engine, count: int) -> None:
        """A count that fills no batch, or just spills over, works too."""
        with Session(sqlite) as session:
            fill(session.connection(), count)

            assert counted(session, Book) == count

    def test_rows_come_in_bounded_batches(self) -> None:
        """No batch grows with the count, and each table comes once in each round."""
        batches = list(generate(3_000))
        sizes = [len(rows) for _, rows in batches]
        rounds = [[table.name for table, _ in batches[start : start + 6]] for start in range(0, len(batches), 6)]

        assert max(sizes) <= 4_000
        assert [name for name, _ in groupby(rounds)] == [
            ["author", "book", "customer", "customer_order", "order_line", "review"],
        ]


class TestModels:
    """What the databases do with the models."""

    @pytest.mark.parametrize("offset", [0, 5.5, -8], ids=str)
    def test_a_moment_comes_back_in_utc(self, engine: Engine, offset: float) -> None:
        """An aware datetime of any timezone comes back as the same moment, in UTC, to the microsecond."""
        moment = NOW.astimezone(timezone(timedelta(hours=offset)))
        with Session(engine) as session:
            order = Order(customer=customer(), placed_at=moment, total=Decimal("0.00"))
            session.add(order)
            session.commit()

            found = session.scalars(select(Order.placed_at).where(Order.placed_at == moment)).one()

        assert found == moment
        assert found.tzinfo is UTC

    def test_a_naive_moment_is_refused(self, sqlite: Engine) -> None:
        """A datetime without a timezone raises, with the remedy."""
        with Session(sqlite) as session:
            session.add(Order(customer=customer(), placed_at=NOW.replace(tzinfo=None), total=Decimal(0)))

            with pytest.raises(StatementError, match="give it a timezone"):
                session.flush()

    def test_an_order_round_trip(self, engine: Engine) -> None:
        """A placed order is stored with its lines, and its answer shows the stored values."""
        author, books = Author(name="Nobody"), [book(1), book(2)]
        author.books.extend(books)
        with Session(engine, expire_on_commit=False) as session:
            order = ordering.place(customer(), books, {1: 1, 2: 2}, now=NOW)
            session.add_all([author, order])
            session.commit()
        with Session(engine) as session:
            stored = session.scalars(select(Order).options(selectinload(Order.lines))).one()
            stock = session.scalars(select(Book.stock).order_by(Book.id)).all()

            assert OrderOut.model_validate(stored) == OrderOut.model_validate(order)
            assert stored.total == Decimal("29.70")
            assert stock == [4, 3]

    def test_children_go_with_their_parent(self, engine: Engine) -> None:
        """Deleting an order or a book deletes its lines or reviews; a book that was ordered cannot go."""
        with Session(engine) as session:
            fill(session.connection(), 20)
            session.commit()
            ordered = session.scalars(select(Book).where(Book.id.in_(select(OrderLine.book_id)))).first()
            session.delete(ordered)
            with pytest.raises(IntegrityError):
                session.flush()
            session.rollback()

            for order in session.scalars(select(Order)):
                session.delete(order)
            session.flush()
            for each in session.scalars(select(Book)):
                session.delete(each)
            session.flush()

            assert counted(session, OrderLine) == 0
            assert counted(session, Review) == 0

    def test_an_author_with_books_stays(self, engine: Engine) -> None:
        """Deleting an author with books fails in the database; no book loses its author."""
        with Session(engine) as session:
            session.add_all(classics()[:1])
            session.commit()
            session.delete(session.scalars(select(Author)).one())

            with pytest.raises(IntegrityError):
                session.flush()

    def test_a_commit_that_fails(self, engine: Engine) -> None:
        """A payment for no order passes the flush and fails the commit, if the database can defer."""
        with Session(engine) as session:
            session.add(Payment(order_id=404, reference="R1", amount=Decimal("1.00")))
            if engine.dialect.name != "mariadb":
                session.flush()

            with pytest.raises(IntegrityError):
                session.commit()

    def test_a_reference_is_unique(self, engine: Engine) -> None:
        """Two payments with one reference cannot be stored; PostgreSQL says so at the commit."""
        with Session(engine) as session:
            order = Order(customer=customer(), placed_at=NOW, total=Decimal("2.00"))
            session.add_all(Payment(order=order, reference="R1", amount=Decimal("1.00")) for _ in range(2))
            if engine.dialect.name == "postgresql":
                session.flush()

            with pytest.raises(IntegrityError):
                session.commit()

    @pytest.mark.parametrize("column", ["price", "stock"])
    def test_checks_are_enforced(self, engine: Engine, column: str) -> None:
        """The database refuses a negative price and a negative stock, and names the constraint."""
        wrong = book(1)
        setattr(wrong, column, -1)
        wrong.author = Author(name="Nobody")
        with Session(engine) as session:
            session.add(wrong)

            with pytest.raises((IntegrityError, OperationalError), match=f"ck_book_{column}"):
                session.flush()

    def test_every_foreign_key_leads_an_index(self) -> None:
        """Each foreign key column is the first of an index, a unique constraint or the primary key."""
        bare = [
            str(column)
            for table in Base.metadata.sorted_tables
            for column in table.columns
            if column.foreign_keys and not leads(table, column.name)
        ]

        assert bare == []


def leads(table: Table, column: str) -> bool:
    """Return whether *column* is the first of an index or key of *table*."""
    keys = [key for key in table.constraints if isinstance(key, UniqueConstraint | PrimaryKeyConstraint)]
    return any(next(iter(key.columns)).name == column for key in (*keys, *table.indexes))


class TestSchemas:
    """What the app reads and answers."""

    def test_a_book_is_answered_with_its_author(self, sqlite: Engine) -> None:
        """BookOut reads a loaded book; money is written as text with its decimals."""
        with Session(sqlite) as session:
            session.add_all(classics()[:1])
            session.commit()
            found = session.scalars(select(Book).options(joinedload(Book.author)).order_by(Book.id)).first()

            answer = BookOut.model_validate(found).model_dump(mode="json")

        assert answer["author"] == {"id": 1, "name": "Homer"}
        assert answer["title"] == "The Iliad"
        assert answer["year"] == -750
        assert isinstance(answer["price"], str)

    def test_order_keys_are_numbers(self) -> None:
        """JSON's text keys become book numbers."""
        order = OrderIn.model_validate_json('{"customer_id": 1, "lines": {"42": 2}}')

        assert order.lines == {42: 2}

    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param({}, id="none"),
            pytest.param({1: 0}, id="zero"),
            pytest.param({1: -1}, id="negative"),
            pytest.param({1: 1_001}, id="too many copies"),
            pytest.param({0: 1}, id="no such id"),
            pytest.param({2**31: 1}, id="id too large"),
            pytest.param(dict.fromkeys(range(1, 52), 1), id="too many lines"),
        ],
    )
    def test_order_lines_are_bounded(self, lines: dict[int, int]) -> None:
        """Lines and quantities out of bounds are validation errors."""
        with pytest.raises(ValidationError):
            OrderIn(customer_id=1, lines=lines)

    @pytest.mark.parametrize("email", ["ada", "ada@", "@example.com", "a b@c.de", "ada@example", "a@b@c.de", "a@b..de"])
    def test_an_email_looks_like_one(self, email: str) -> None:
        """An address needs one @ and a domain with a dot, without spaces."""
        with pytest.raises(ValidationError):
            CustomerIn(name="Ada", email=email)

    def test_an_email_is_kept_in_lower_case(self) -> None:
        """Case and outer spaces do not make a second customer."""
        assert CustomerIn(name=" Ada ", email=" Ada@Example.COM ").model_dump() == {
            "name": "Ada",
            "email": "ada@example.com",
        }

    def test_a_misspelt_field_is_an_error(self) -> None:
        """Inputs take no field that they do not declare."""
        with pytest.raises(ValidationError, match="Extra inputs"):
            ReviewIn.model_validate({"customer_id": 1, "stars": 5, "text": "", "star": 1})

    def test_every_field_is_described(self) -> None:
        """Each field of each model has a description for the OpenAPI document."""
        for model in (BookIn, BookOut, CustomerIn, OrderIn, OrderOut, ReviewIn):
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name}"
