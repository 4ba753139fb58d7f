"""C24: one translation for every driver, against real databases: one body a fault, run by seven drivers."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncpg.exceptions import PostgresError
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import INT4RANGE, ExcludeConstraint
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, registry

from fastkit import errors
from fastkit.database._translate import translate

SECRET = "s3cr3t-value"
PREFIX = f"tr_{os.getpid()}_"
SERVERS = {
    "postgresql": os.environ.get("FASTKIT_POSTGRES", "postgres:@127.0.0.1:5432/test"),
    "mariadb": os.environ.get("FASTKIT_MARIADB", "root:@127.0.0.1:3306/test"),
}
DIALECTS = {
    "psycopg": "postgresql+psycopg",
    "psycopg_async": "postgresql+psycopg_async",
    "asyncpg": "postgresql+asyncpg",
    "pymysql": "mysql+pymysql",
    "asyncmy": "mysql+asyncmy",
    "sqlite3": "sqlite",
    "aiosqlite": "sqlite+aiosqlite",
}
ASYNC = {"psycopg_async", "asyncpg", "asyncmy", "aiosqlite"}
POSTGRESQL = ["psycopg", "psycopg_async", "asyncpg"]
MARIADB = ["pymysql", "asyncmy"]
SQLITE = ["sqlite3", "aiosqlite"]

Body = Callable[[Connection], object]

PLAIN = MetaData()
AUTHOR = Table(
    f"{PREFIX}author",
    PLAIN,
    Column("id", Integer, primary_key=True, autoincrement=False),
    mysql_engine="InnoDB",
)
BOOK = Table(
    f"{PREFIX}book",
    PLAIN,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("isbn", String(40), key="isbn_key", unique=True),
    Column("title", String(5), nullable=False),
    Column("author_id", ForeignKey(AUTHOR.c.id)),
    Column("place", Integer),
    Column("price", Numeric(8, 2)),
    CheckConstraint("price > 0", name=f"{PREFIX}price_positive"),
    UniqueConstraint("author_id", "place", name=f"{PREFIX}author_place"),
    mysql_engine="InnoDB",
)
NAMED = MetaData(naming_convention={"uq": "uq_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})
SHELF = Table(
    f"{PREFIX}shelf",
    NAMED,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("code", String(40), unique=True),
    Column("a_rather_long_column_name_for_a_row_and_its_place", String(40), unique=True),
    Column("label", String(40)),
    Index(f"{PREFIX}label", "label", unique=True, info={"pointer": "/shelf/label", "detail": "{label} is in use."}),
    CheckConstraint("label <> ''"),
)
TWICE = Table(
    f"{PREFIX}twice",
    PLAIN,
    Column("id", Integer, primary_key=True),
    *(Column(name, Integer, nullable=False, server_default="0") for name in "abc"),
    UniqueConstraint("a", "b"),
    UniqueConstraint("a", "c"),
)
ROOMS = MetaData()
ROOM = Table(
    f"{PREFIX}room",
    ROOMS,
    Column("during", INT4RANGE),
    ExcludeConstraint(("during", "&&"), name=f"{PREFIX}no_overlap"),
)
ELSEWHERE = MetaData(schema=f"{PREFIX}elsewhere")
OTHER_BOOK = Table(
    f"{PREFIX}book",
    ELSEWHERE,
    Column("id", Integer, primary_key=True),
    Column("code", String(40), unique=True),
    CheckConstraint("code <> ''", name=f"{PREFIX}price_positive"),
)
METADATA = (PLAIN, NAMED, ROOMS, ELSEWHERE)


class Database:
    """One driver against its database; the opponents that some faults need come from the sync driver."""

    def __init__(self, driver: str, place: str) -> None:
        self.driver = driver
        self.place = place
        self.family = {"postgresql": "postgresql", "mysql": "mariadb"}.get(DIALECTS[driver].split("+")[0], "sqlite")

    def run(self, body: Body, place: str | None = None, **options: Any) -> None:
        """Run `body` on a connection of the driver that is rolled back at the end."""
        url = f"{DIALECTS[self.driver]}://{place or self.place}"
        if self.driver in ASYNC:
            asyncio.run(self._run_async(body, url, options))
            return
        engine = create_engine(url, **options)
        self._prepare(engine)
        try:
            with engine.connect() as connection:
                body(connection)
        finally:
            engine.dispose()

    async def _run_async(self, body: Body, url: str, options: dict[str, Any]) -> None:
        engine = create_async_engine(url, **options)
        self._prepare(engine.sync_engine)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(body)
        finally:
            await engine.dispose()
            await asyncio.sleep(0.02)  # the thread of a failed aiosqlite connection still answers to the loop

    def _prepare(self, engine: Engine) -> None:
        if self.family == "sqlite":
            event.listen(engine, "connect", lambda dbapi, _: _pragmas(dbapi))

    def failure(self, body: Body, place: str | None = None, **options: Any) -> Any:
        """Return the translation of what `body` raises; no secret may be left in it."""
        with pytest.raises(Exception) as caught:  # noqa: PT011
            self.run(body, place, **options)
        translated = translate(caught.value, METADATA)
        if translated is not None:
            told = f"{translated} {translated.args!r} {translated.members()} {vars(translated)}"
            assert SECRET not in told
            assert "INSERT" not in told
        return translated

    @contextmanager
    def opponent(self) -> Iterator[Connection]:
        """Open a second connection, from the sync driver."""
        sync = {"postgresql": "psycopg", "mariadb": "pymysql", "sqlite": "sqlite3"}[self.family]
        engine = create_engine(f"{DIALECTS[sync]}://{self.place}")
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()


def _pragmas(dbapi: Any) -> None:
    cursor = dbapi.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA busy_timeout = 50")
    cursor.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | Exception]]:
    """Create the tables once in every database that can be reached; tests roll back what they write."""
    places: dict[str, str | Exception] = {"sqlite": f"/{tmp_path_factory.mktemp('tr')}/tr.db", **SERVERS}
    for family, driver in (("postgresql", "psycopg"), ("mariadb", "pymysql"), ("sqlite", "sqlite3")):
        try:
            Database(driver, str(places[family])).run(_create)
        except DBAPIError as error:
            places[family] = error
    yield places
    for family, driver in (("postgresql", "psycopg"), ("mariadb", "pymysql")):
        if isinstance(places[family], str):
            Database(driver, str(places[family])).run(_drop)


def _create(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    PLAIN.create_all(connection)
    NAMED.create_all(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"CREATE SCHEMA {ELSEWHERE.schema}"))
        ROOMS.create_all(connection)
        ELSEWHERE.create_all(connection)
    connection.execute(AUTHOR.insert(), [{"id": each} for each in (1, 2)])
    rows = [{"id": each, "title": "seed", "place": 0} for each in range(1, 7)]
    connection.execute(BOOK.insert(), rows)
    connection.commit()


def _drop(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        ROOMS.drop_all(connection)
        ELSEWHERE.drop_all(connection)
        connection.execute(text(f"DROP SCHEMA {ELSEWHERE.schema}"))
    NAMED.drop_all(connection)
    PLAIN.drop_all(connection)
    connection.commit()


@pytest.fixture(params=list(DIALECTS))
def db(request: pytest.FixtureRequest, places: dict[str, str | Exception]) -> Database:
    """Return one driver; a test that is only for some of them names them with `only`."""
    database = Database(request.param, "")
    place = places[database.family]
    if isinstance(place, Exception):
        if os.environ.get("FASTKIT_REQUIRE_SERVERS") == "1":
            pytest.fail(f"{database.family} is required but unreachable")
        pytest.skip(f"{database.family} is unreachable")
    database.place = place
    return database


def only(*groups: list[str]) -> pytest.MarkDecorator:
    """Run a test on these drivers alone."""
    return pytest.mark.parametrize("db", [driver for group in groups for driver in group], indirect=True)


def book(connection: Connection, **values: Any) -> object:
    """Insert a book whose ISBN is the secret."""
    return connection.execute(BOOK.insert().values({"id": 100, "title": "t", "isbn_key": SECRET, **values}))


def test_c24_unique_names_constraint_and_columns(db: Database) -> None:
    """A unique constraint without a name is found, by its column and the name that the server made up."""
    error = db.failure(lambda c: (book(c), book(c, id=101)))

    made_up = {"postgresql": f"{BOOK.name}_isbn_key", "mariadb": "isbn", "sqlite": None}
    assert type(error) is errors.UniqueError
    assert (error.constraint, error.table, error.columns) == (made_up[db.family], BOOK.name, ("isbn",))
    assert str(error) == f"Another {BOOK.name} with the same isbn exists already."
    assert error.members()["errors"][0]["pointer"] == "/isbn"


def test_c24_unique_of_several_columns(db: Database) -> None:
    """A named constraint over two columns is told with both, on SQLite as well."""
    error = db.failure(lambda c: [book(c, id=each, isbn_key=None, author_id=1, place=7) for each in (100, 101)])

    assert type(error) is errors.UniqueError
    assert (error.constraint, error.table) == (f"{PREFIX}author_place", BOOK.name)
    assert error.columns == ("author_id", "place")
    assert str(error) == f"Another {BOOK.name} with the same author_id and place exists already."


def test_c24_unique_primary_key(db: Database) -> None:
    """A primary key is a unique constraint, and MariaDB does not say of which table."""
    error = db.failure(lambda c: book(c, id=1))

    made_up = {"postgresql": f"{BOOK.name}_pkey", "mariadb": "PRIMARY", "sqlite": None}
    assert type(error) is errors.UniqueError
    assert (error.constraint, error.table, error.columns) == (made_up[db.family], BOOK.name, ("id",))


@pytest.mark.parametrize("column", ["code", "a_rather_long_column_name_for_a_row_and_its_place", "label"])
def test_c24_unique_under_a_naming_convention(db: Database, column: str) -> None:
    """A name from a convention is found though SQLAlchemy cuts it, and so is a unique index."""
    error = db.failure(lambda c: [c.execute(SHELF.insert().values({"id": i, column: SECRET})) for i in (1, 2)])

    assert type(error) is errors.UniqueError
    assert (error.table, error.columns) == (SHELF.name, (column,))
    assert str(error.constraint).startswith(PREFIX if column == "label" else f"uq_{PREFIX}")


def test_c24_what_a_constraint_says_of_itself(db: Database) -> None:
    """Its words and its pointer go before those of fastkit, on every database, and into the copy for a parent."""
    error = db.failure(lambda c: [c.execute(SHELF.insert().values({"id": i, "label": SECRET})) for i in (1, 2)])

    assert isinstance(error, errors.UniqueError)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert str(each) == each.worded(["x"]) == "{label} is in use."
        assert each.members() == {"errors": [{"detail": "{label} is in use.", "pointer": "/shelf/label"}]}


def test_c24_the_names_of_a_message_can_be_others(db: Database) -> None:
    """Who answers a client puts its names in; braces of names stay braces."""
    error = db.failure(lambda c: (book(c), book(c, id=101)))

    assert isinstance(error, errors.UniqueError)
    assert error.worded(["{ISBN}"]) == f"Another {BOOK.name} with the same {{ISBN}} exists already."
    assert error.worded([]) == f"Another {BOOK.name} with the same value exists already."


def test_c24_unique_without_metadata_tells_what_the_driver_says(db: Database) -> None:
    """Without metadata nothing is guessed."""
    with pytest.raises(IntegrityError) as caught:
        db.run(lambda c: (book(c), book(c, id=101)))
    error = translate(caught.value)

    assert isinstance(error, errors.UniqueError)
    mariadb = db.family == "mariadb"
    assert (error.table, error.columns) == ((None, ()) if mariadb else (BOOK.name, ("isbn",)))
    assert SECRET not in f"{error} {error.args} {error.members()}"


@only(POSTGRESQL)
def test_c24_unique_in_another_schema(db: Database) -> None:
    """Of two tables with one name, the one in the schema of the error is meant."""
    error = db.failure(lambda c: [c.execute(OTHER_BOOK.insert().values(id=i, code=SECRET)) for i in (1, 2)])

    assert (type(error), error.table, error.columns) == (errors.UniqueError, OTHER_BOOK.name, ("code",))


@only(POSTGRESQL)
def test_c24_check_in_another_schema(db: Database) -> None:
    """Of two rules with one name in tables with one name, the one in the schema of the error is meant."""
    error = db.failure(lambda c: c.execute(OTHER_BOOK.insert().values(id=1, code="")))

    assert (type(error), error.table, error.columns) == (errors.CheckError, OTHER_BOOK.name, ("code",))


def test_c24_unique_primary_key_with_a_name(db: Database) -> None:
    """A primary key with a name is found too, though MariaDB drops the name."""
    error = db.failure(lambda c: [c.execute(SHELF.insert().values(id=1)) for _ in range(2)])

    name = "PRIMARY" if db.family == "mariadb" else f"pk_{SHELF.name}"
    assert (error.constraint, error.table, error.columns) == (name, SHELF.name, ("id",))


@only(MARIADB)
def test_c24_unique_that_could_be_two_is_not_guessed(db: Database) -> None:
    """Where MariaDB makes up one name from either of two constraints, no column is told."""
    error = db.failure(lambda c: [c.execute(TWICE.insert().values(id=i, a=1, b=1, c=i)) for i in (1, 2)])

    assert type(error) is errors.UniqueError
    assert (error.table, error.columns) == (None, ())


@only(MARIADB)
def test_c24_unique_of_a_table_outside_the_metadata(db: Database) -> None:
    """A made-up name is not looked for in tables that were not written to."""

    def body(connection: Connection) -> None:
        connection.execute(text(f"CREATE TEMPORARY TABLE {PREFIX}outside (isbn INT UNIQUE)"))
        connection.execute(text(f"INSERT INTO {PREFIX}outside VALUES (1), (1)"))

    error = db.failure(body)

    assert (error.constraint, error.table, error.columns) == ("isbn", None, ())


@only(MARIADB)
@pytest.mark.parametrize("language", ["de_DE", "ja_JP", "fr_FR"])
@pytest.mark.parametrize("isbn", [SECRET, f"{SECRET}' for key '{SECRET}", f"`{SECRET}`.`{SECRET}`"])
def test_c24_unique_in_another_language(db: Database, language: str, isbn: str) -> None:
    """Neither a translated message nor a value that looks like one leads astray."""

    def body(connection: Connection) -> None:
        connection.execute(text(f"SET lc_messages = '{language}'"))
        book(connection, isbn_key=isbn[:40])
        book(connection, isbn_key=isbn[:40], id=101)

    error = db.failure(body)

    assert (type(error), error.constraint, error.columns) == (errors.UniqueError, "isbn", ("isbn",))


def test_c24_foreign_key_child(db: Database) -> None:
    """A row that points nowhere is told from the child's side, except on SQLite, which tells nothing."""
    error = db.failure(lambda c: book(c, author_id=999))

    assert type(error) is errors.ForeignKeyError
    assert_foreign_key(error, db, "child", "refers to a row that does not exist.")


def test_c24_foreign_key_parent(db: Database) -> None:
    """A row that is still pointed to is told from the parent's side, with the columns of the child."""
    error = db.failure(lambda c: (book(c, author_id=1), c.execute(AUTHOR.delete().where(AUTHOR.c.id == 1))))

    assert type(error) is errors.ForeignKeyError
    assert_foreign_key(error, db, "parent", "still refers to the row.")


def assert_foreign_key(error: errors.ForeignKeyError, db: Database, side: str, says: str) -> None:
    """Compare with what each database tells about the foreign key from book to author."""
    if db.family == "sqlite":
        assert (error.side, error.constraint, error.table, error.columns) == (None, None, None, ())
        return
    made_up = {"postgresql": f"{BOOK.name}_author_id_fkey", "mariadb": f"{BOOK.name}_ibfk_1"}[db.family]
    assert (error.side, error.constraint) == (side, made_up)
    assert (error.table, error.columns) == (BOOK.name, ("author_id",))
    assert str(error) == f"The author_id of {BOOK.name} {says}"


@pytest.mark.parametrize(
    ("message", "side"),
    [
        ("Einfügen oder Aktualisieren in Tabelle »b« verletzt Constraint »f«", "child"),
        (
            "Aktualisieren oder Löschen in Tabelle »a« verletzt Constraint »f« von Tabelle »b«",
            "parent",
        ),
        ("", None),
    ],
)
def test_c24_foreign_key_side_in_another_language(message: str, side: str | None) -> None:
    """The side of a PostgreSQL foreign key does not hang on English; most servers speak it, so this is built."""
    driver = PostgresError.new({"C": "23503", "M": message, "n": "f", "t": "b", "D": f"»x« (c)=({SECRET})"})
    error = translate(DBAPIError("INSERT", {}, driver))

    assert isinstance(error, errors.ForeignKeyError)
    assert error.side == side
    assert SECRET not in f"{error} {vars(error)}"


@pytest.mark.parametrize("given", [True, False])
def test_c24_not_null(db: Database, given: bool) -> None:
    """A required column is named, whether it got NULL or nothing at all."""
    left_out = text(f"INSERT INTO {BOOK.name} (id, isbn) VALUES (100, '{SECRET}')")
    error = db.failure(lambda c: book(c, title=None) if given else c.execute(left_out))

    assert (type(error), error.table, error.columns) == (errors.NotNullError, BOOK.name, ("title",))
    assert str(error) == f"title of {BOOK.name} is required."


def test_c24_check(db: Database) -> None:
    """A check constraint is named, with the table and the columns that its text names."""
    error = db.failure(lambda c: book(c, price=-5))

    assert type(error) is errors.CheckError
    assert (error.constraint, error.table, error.columns) == (
        f"{PREFIX}price_positive",
        BOOK.name,
        ("price",),
    )


def test_c24_check_without_a_name(db: Database) -> None:
    """A check without a name is known by what the server calls it; the expression that SQLite tells is no name."""
    error = db.failure(lambda c: c.execute(SHELF.insert().values(id=1, label="")))

    made_up = {"postgresql": f"{SHELF.name}_label_check", "mariadb": "CONSTRAINT_1", "sqlite": None}
    assert type(error) is errors.CheckError
    assert (error.constraint, error.table) == (made_up[db.family], SHELF.name)
    assert error.columns == (() if db.family == "mariadb" else ("label",))


def test_c24_check_keeps_values_that_look_like_a_key() -> None:
    """The detail of a check begins with the row: a value that is written like a key is not taken for columns."""
    driver = PostgresError.new({"C": "23514", "D": f"Failing row contains ({SECRET})=(, 1).", "n": "c", "t": "t"})

    error = translate(IntegrityError("INSERT", {}, driver))

    assert isinstance(error, errors.CheckError)
    assert SECRET not in f"{error} {vars(error)}"


@only(POSTGRESQL)
def test_c24_exclusion(db: Database) -> None:
    """An exclusion constraint is named, with its columns."""
    overlap = text(f"INSERT INTO {ROOM.name} VALUES ('[1,5)'), ('[3,8)')")
    error = db.failure(lambda c: c.execute(overlap))

    assert type(error) is errors.ExclusionError
    assert (error.constraint, error.table, error.columns) == (f"{PREFIX}no_overlap", ROOM.name, ("during",))


@only(POSTGRESQL, MARIADB)
def test_c24_value_too_long(db: Database) -> None:
    """A text that does not fit is told; MariaDB tells the column, PostgreSQL does not, SQLite stores it."""
    error = db.failure(lambda c: book(c, title=SECRET))

    assert type(error) is errors.InvalidValueError
    assert error.columns == (("title",) if db.family == "mariadb" else ())
    assert str(error).endswith("is too long.")


def test_c24_value_out_of_range(db: Database) -> None:
    """A number that no integer column holds is told, though sqlite3 raises a bare OverflowError."""
    error = db.failure(lambda c: book(c, place=2**70))

    assert type(error) is errors.InvalidValueError
    assert error.columns == (("place",) if db.family == "mariadb" else ())
    assert str(error).endswith("is out of range.")


@pytest.mark.parametrize("column", ["place", "price"])
@pytest.mark.parametrize("value", [{"a": SECRET}, [SECRET], object()], ids=["dict", "list", "object"])
def test_c24_value_of_a_wrong_type(db: Database, column: str, value: object) -> None:
    """A value that no driver can send is told, whether SQLAlchemy, the driver or the server refuses it."""
    assert type(db.failure(lambda c: book(c, **{column: value}))) is errors.InvalidValueError


@pytest.mark.parametrize("hostile", [SECRET, f"`{SECRET}`.`{SECRET}`.`{SECRET}`", f"x' `{SECRET}`.`a`.`b"])
def test_c24_value_of_a_bad_form(db: Database, hostile: str) -> None:
    """A text in a column of numbers is told, and its text is not, however it is quoted."""
    error = db.failure(lambda c: book(c, price=hostile))

    assert type(error) is errors.InvalidValueError
    if db.family == "mariadb":
        assert (error.table, error.columns) == (BOOK.name, ("price",))


@pytest.mark.parametrize("reading", [True, False])
def test_c24_lone_surrogate(db: Database, reading: bool) -> None:
    """A lone surrogate cannot be sent: most drivers raise a bare UnicodeEncodeError for it."""
    broken = f"{SECRET}\ud800"
    query = select(BOOK).where(BOOK.c.isbn_key == broken)
    error = db.failure(lambda c: c.execute(query) if reading else book(c, isbn_key=broken))

    assert type(error) is errors.InvalidValueError
    assert "character" in str(error)


@only(POSTGRESQL)
def test_c24_nul_in_text(db: Database) -> None:
    """A NUL in a text is refused by PostgreSQL; the others store it."""
    assert type(db.failure(lambda c: book(c, isbn_key=f"{SECRET}\x00"))) is errors.InvalidValueError


def test_c24_serialization(db: Database) -> None:
    """A write on a snapshot that is no longer true is a serialization error, on SQLite too."""

    def body(connection: Connection) -> None:
        if db.family == "mariadb":
            connection.execute(text("SET SESSION innodb_snapshot_isolation = ON"))
            connection.rollback()
        elif db.family == "sqlite":
            connection.exec_driver_sql("BEGIN")
        connection.execute(select(BOOK)).all()
        with db.opponent() as other:
            other.execute(BOOK.update().where(BOOK.c.id == 6).values(place=BOOK.c.place + 1))
            other.commit()
        connection.execute(BOOK.update().where(BOOK.c.id == 6).values(place=0))

    isolation = {} if db.family == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    error = db.failure(body, **isolation)

    assert type(error) is errors.SerializationError
    assert error.retryable


def _deadlock(db: Database, connection: Connection, *, nested: bool = False) -> None:
    """Take two rows in the wrong order; the opponent has done more work, so `connection` is the victim."""
    take = text(f"UPDATE {BOOK.name} SET place = 1 WHERE id = :id")
    holding, done = threading.Event(), threading.Event()

    def oppose() -> None:
        with db.opponent() as other:
            if db.family == "postgresql":
                other.execute(text("SET deadlock_timeout = '20s'"))
            other.execute(text(f"UPDATE {BOOK.name} SET place = 2 WHERE id BETWEEN 2 AND 6"))
            holding.set()
            other.execute(take, {"id": 1})
            done.wait(10)

    if db.family == "postgresql":
        connection.execute(text("SET deadlock_timeout = '1s'"))
    connection.execute(take, {"id": 1})
    thread = threading.Thread(target=oppose)
    thread.start()
    try:
        assert holding.wait(10)
        time.sleep(0.1)  # ours waits 1 s before it looks for a deadlock; the opponent's request comes long before
        if nested:
            with connection.begin_nested():
                connection.execute(take, {"id": 2})
        connection.execute(take, {"id": 2})
    finally:
        done.set()
        connection.rollback()
        thread.join()


@only(POSTGRESQL, MARIADB)
def test_c24_deadlock(db: Database) -> None:
    """The victim of a deadlock is told so."""
    assert type(db.failure(lambda c: _deadlock(db, c))) is errors.DeadlockError


@only(MARIADB)
def test_c24_deadlock_in_a_savepoint(db: Database) -> None:
    """MariaDB drops the savepoints with the deadlock: where Python still knows the deadlock, it is told."""
    error = db.failure(lambda c: _deadlock(db, c, nested=True))

    # asyncmy runs in another greenlet, so Python does not chain the two errors; nothing is guessed then.
    assert type(error) is {"pymysql": errors.DeadlockError, "asyncmy": type(None)}[db.driver]


@pytest.mark.parametrize("nowait", [False, True])
def test_c24_lock_timeout(db: Database, nowait: bool) -> None:
    """A lock that is not granted in time, or not at once, is told; on SQLite another connection writes."""

    def body(connection: Connection) -> None:
        wait = {"postgresql": "SET lock_timeout = '50ms'", "mariadb": "SET innodb_lock_wait_timeout = 1"}
        if db.family in wait:
            connection.execute(text(wait[db.family]))
        with db.opponent() as other:
            other.execute(BOOK.update().where(BOOK.c.id == 5).values(place=5))
            if nowait and db.family != "sqlite":
                connection.execute(select(BOOK).where(BOOK.c.id == 5).with_for_update(nowait=True))
            connection.execute(BOOK.update().where(BOOK.c.id == 5).values(place=0))

    error = db.failure(body)

    assert type(error) is errors.LockTimeoutError
    assert error.retry_after == 1


def test_c24_statement_timeout(db: Database) -> None:
    """A statement that is stopped is told."""

    def body(connection: Connection) -> None:
        if db.family == "sqlite":
            raw: Any = connection.connection.driver_connection
            threading.Timer(0.1, getattr(raw, "_conn", raw).interrupt).start()
            endless = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r"
            connection.execute(text(endless)).all()
        limit = {"postgresql": "statement_timeout = 50", "mariadb": "max_statement_time = 0.05"}[db.family]
        connection.execute(text(f"SET {limit}"))
        connection.execute(text("SELECT pg_sleep(5)" if db.family == "postgresql" else "SELECT sleep(5)"))

    assert type(db.failure(body)) is errors.StatementTimeoutError


@only(["asyncpg"])
def test_c24_statement_timeout_of_the_driver(db: Database) -> None:
    """The command_timeout of asyncpg is a bare TimeoutError."""
    options: dict[str, Any] = {"connect_args": {"command_timeout": 0.1}}

    error = db.failure(lambda c: c.execute(text("SELECT pg_sleep(5)")), None, **options)

    assert type(error) is errors.StatementTimeoutError


def test_c24_pool_timeout(db: Database) -> None:
    """A pool without a free connection is told with what to change."""
    error = db.failure(lambda c: c.engine.connect(), pool_size=1, max_overflow=0, pool_timeout=0.05)

    assert type(error) is errors.PoolTimeoutError
    assert "pool_size" in str(error)


@only(POSTGRESQL, MARIADB)
@pytest.mark.parametrize("then", ["execute", "commit", "insert"])
def test_c24_connection_lost(db: Database, then: str) -> None:
    """A killed connection is lost, whatever was under way."""

    def body(connection: Connection) -> None:
        own = connection.scalar(text("SELECT pg_backend_pid()" if postgresql else "SELECT connection_id()"))
        with db.opponent() as other:
            other.execute(text(f"SELECT pg_terminate_backend({own})" if postgresql else f"KILL {own}"))
        time.sleep(0.1)
        if then == "commit":
            connection.commit()
        connection.execute(text("SELECT 1")) if then == "execute" else book(connection)

    postgresql = db.family == "postgresql"
    assert type(db.failure(body)) is errors.ConnectionLostError


def test_c24_connection_lost_is_never_a_conflict() -> None:
    """A broken connection wins over the code that comes with it; no server does this at will, so it is built."""
    driver = PostgresError.new({"C": "23505", "M": "duplicate key"})

    error = translate(IntegrityError("INSERT", {}, driver, connection_invalidated=True))

    assert type(error) is errors.ConnectionLostError


@only(POSTGRESQL)
def test_c24_connection_lost_by_idling(db: Database) -> None:
    """A transaction that idled too long has lost its connection, which psycopg calls an InternalError."""

    def body(connection: Connection) -> None:
        connection.execute(text("SET idle_in_transaction_session_timeout = 50"))
        time.sleep(0.3)
        connection.execute(text("SELECT 1"))

    assert type(db.failure(body)) is errors.ConnectionLostError


@only(POSTGRESQL, MARIADB)
@pytest.mark.parametrize("fault", ["refused", "unknown host", "wrong user", "wrong database"])
def test_c24_cannot_connect(db: Database, fault: str) -> None:
    """A server that does not answer, or does not let in, is told without its address and password."""
    user, _, rest = db.place.partition("@")
    host, _, name = rest.partition("/")
    place = {
        "refused": f"root:{SECRET}@127.0.0.1:1/{name}",
        "unknown host": f"root:{SECRET}@{SECRET}.invalid/{name}",
        "wrong user": f"{SECRET}:{SECRET}@{host}/{name}",
        "wrong database": f"{user}@{host}/{SECRET}",
    }[fault]
    error = db.failure(lambda c: c.execute(text("SELECT 1")), place)

    assert type(error) is errors.CannotConnectError


@only(SQLITE)
@pytest.mark.parametrize("what", ["missing folder", "not a database"])
def test_c24_cannot_open(db: Database, tmp_path: Path, what: str) -> None:
    """A file that cannot be opened is the connection that cannot be made."""
    (tmp_path / "text").write_text("x" * 4000)
    place = f"/{tmp_path}/{'nowhere/x.db' if what == 'missing folder' else 'text'}"

    error = db.failure(lambda c: c.execute(text("SELECT * FROM sqlite_master")), place)

    assert type(error) is errors.CannotConnectError


def test_c24_stale_row(db: Database) -> None:
    """A row that was deleted behind the session is stale, and the same write again would not help."""
    orm = registry()

    class Entity:
        id: int
        place: int

    orm.map_imperatively(Entity, BOOK, confirm_deleted_rows=True)

    def body(connection: Connection) -> None:
        with Session(connection) as session:
            entity = session.get_one(Entity, 1)
            session.execute(text(f"DELETE FROM {BOOK.name} WHERE id = 1"))
            entity.place = 99
            session.flush()

    error = db.failure(body)
    orm.dispose()

    assert (type(error), error.table, error.retryable) == (errors.StaleRowError, BOOK.name, False)


def test_c24_read_only(db: Database) -> None:
    """A write in a read-only transaction is told, not reported as a missing right."""

    def body(connection: Connection) -> None:
        if db.family == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        else:
            begin = "SET TRANSACTION READ ONLY" if db.family == "postgresql" else "START TRANSACTION READ ONLY"
            connection.execute(text(begin))
        book(connection)

    assert type(db.failure(body)) is errors.ReadOnlyError


@only(SQLITE)
def test_c24_disk_full(db: Database) -> None:
    """A full disk is not the fault of the request."""

    def body(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        connection.execute(text(f"UPDATE {BOOK.name} SET isbn = zeroblob(1000000)"))

    assert type(db.failure(body)) is errors.UnavailableError


def _raise(error: Exception) -> None:
    raise error


_BROKEN_DEFAULT = Table(
    f"{PREFIX}author",
    MetaData(),
    Column("id", Integer, primary_key=True, default=lambda: _raise(ValueError(SECRET))),
)
BUGS: dict[str, Body] = {
    "missing table": lambda c: c.execute(text(f"SELECT * FROM {PREFIX}nowhere")),
    "wrong SQL": lambda c: c.execute(text("SELEC 1")),
    "missing parameter": lambda c: c.execute(text("SELECT :a")),
    "default of a column": lambda c: c.execute(_BROKEN_DEFAULT.insert()),
    "ValueError": lambda _: _raise(ValueError(SECRET)),
    "OSError": lambda _: _raise(OSError(SECRET)),
    "TimeoutError": lambda _: _raise(TimeoutError(SECRET)),
    "PendingRollbackError": lambda _: _raise(PendingRollbackError(SECRET)),
    "fastkit": lambda _: _raise(errors.NotFoundError("Book")),
}


@pytest.mark.parametrize("bug", BUGS)
def test_c24_a_bug_of_the_app_stays_what_it_is(db: Database, bug: str) -> None:
    """What the app did wrong has no translation, above all not one that blames the client."""
    assert db.failure(BUGS[bug]) is None


@only(MARIADB)
def test_c24_too_few_parameters_are_a_bug(db: Database) -> None:
    """The bare TypeError of asyncmy for wrong SQL looks like the one for a wrong value."""
    assert db.failure(lambda c: c.exec_driver_sql("SELECT %s, %s", (1,))) is None
