"""The example of migrations: up, no difference to the models, and down again, on every database."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from servers import DRIVERS, TEST_DATABASE, Driver, send
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from fastkit import Database, Repository, UnitOfWork
from fastkit.errors import CheckError, UniqueError
from migrations.models import Author, Book

FOLDER = Path(__file__).parents[2] / "examples" / "migrations"
SYNC = {"SQLite": "sqlite", "PostgreSQL": "postgresql+psycopg", "MariaDB": "mariadb+pymysql"}
NAME = f"{TEST_DATABASE}_migrations"

all_or_nothing = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server != "MariaDB"], ids=lambda driver: driver.id, indirect=True
)


class Library(UnitOfWork):
    """Authors and books."""

    authors: Repository[Author]
    books: Repository[Book]


class Migrated:
    """An empty database, and Alembic."""

    def __init__(self, url: str, server: str) -> None:
        self.url = make_url(url).set(drivername=SYNC[server]).render_as_string(hide_password=False)
        self._config = Config(FOLDER / "alembic.ini", stdout=io.StringIO())

    def upgrade(self, revision: str) -> None:
        """Go up to a revision."""
        command.upgrade(self._config, revision)

    def downgrade(self, revision: str) -> None:
        """Go down to a revision."""
        command.downgrade(self._config, revision)

    def check(self) -> None:
        """Fail if the models and the tables differ."""
        command.check(self._config)

    def send(self, *statements: str) -> list[Any]:
        """Send statements; return the rows of the last one."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            results = [connection.execute(text(each)) for each in statements]
            return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []

    def tables(self) -> dict[str, Any]:
        """Return the names of the tables, but Alembic's own, each with its constraints and indexes."""
        engine = create_engine(self.url, poolclass=NullPool)
        look = inspect(engine)
        return {
            name: {
                "unique": {each["name"] for each in look.get_unique_constraints(name)},
                "check": {each["name"]: each["sqltext"] for each in look.get_check_constraints(name)},
                "foreign": {each["name"] for each in look.get_foreign_keys(name)},
                "columns": {each["name"]: each["nullable"] for each in look.get_columns(name)},
            }
            for name in set(look.get_table_names()) - {"alembic_version"}
        }


@pytest.fixture
def migrated(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Migrated]:
    """Return an empty database of its own, which is where the migrations go."""
    if driver.server == "SQLite":
        url = f"{driver.name}:///{tmp_path / 'library.db'}"
    else:
        send(driver.server, f"CREATE DATABASE {NAME}")
        url = make_url(driver.url).set(database=NAME).render_as_string(hide_password=False)
    monkeypatch.setenv("MIGRATIONS_DATABASE", url)
    yield Migrated(url, driver.server)
    if driver.server != "SQLite":
        send(driver.server, f"DROP DATABASE {NAME}")


def test_up_no_difference_and_down(migrated: Migrated) -> None:
    """From nothing to the models, with nothing left to generate; back, step by step, to nothing; and up again."""
    migrated.upgrade("head")
    migrated.check()
    first = migrated.tables()
    for _ in range(3):
        migrated.downgrade("-1")
    nothing = migrated.tables()
    migrated.upgrade("head")
    migrated.check()

    assert nothing == {}
    assert first.keys() == {"author", "book"}
    assert migrated.tables() == first
    migrated.downgrade("base")
    assert migrated.tables() == {}


def test_rows_go_with_the_tables(migrated: Migrated) -> None:
    """What is stored at the first revision is there at the last one, and after the way back."""
    migrated.upgrade("0001")
    migrated.send(
        "INSERT INTO author (id, name) VALUES (1, 'Jane Austen'), (2, 'Ovid')",
        "INSERT INTO book (id, title, author_id, price) VALUES (1, 'Emma', 1, 10), (2, 'Amores', 2, 5)",
    )
    migrated.upgrade("head")
    sorted_names = migrated.send("SELECT name, sort_name FROM author ORDER BY id")
    books = migrated.send("SELECT title, author_id FROM book ORDER BY id")
    migrated.downgrade("0001")

    assert sorted_names == [("Jane Austen", "Austen, Jane"), ("Ovid", "Ovid")]
    assert books == [("Emma", 1), ("Amores", 2)]
    assert migrated.send("SELECT name FROM author ORDER BY id") == [("Jane Austen",), ("Ovid",)]
    assert migrated.send("SELECT title, author_id FROM book ORDER BY id") == books


def test_the_names_of_constraints_are_those_of_the_models(migrated: Migrated) -> None:
    """So fastkit can say which column broke a rule, after a migration as after create_all()."""
    migrated.upgrade("head")
    with Database(migrated.url) as database:
        with Library(database) as library:
            austen = library.authors.add(Author(name="Jane Austen", sort_name="Austen, Jane"))
            library.session.flush()
            library.books.add(Book(title="Emma", author_id=austen.id, price=0))
            library.commit()
        with pytest.raises(CheckError) as negative, Library(database) as library:
            library.books.add(Book(title="Persuasion", author_id=austen.id, price=-1))
            library.commit()
        with pytest.raises(UniqueError) as twice, Library(database) as library:
            library.books.add(Book(title="Emma", author_id=austen.id, price=1))
            library.commit()

    assert negative.value.constraint == "ck_book_price"
    assert set(twice.value.columns) == {"author_id", "title"}


@all_or_nothing
def test_a_migration_that_fails_changes_nothing(migrated: Migrated) -> None:
    """A downgrade that a stored row does not allow leaves tables, rows and revision as they were."""
    migrated.upgrade("head")
    migrated.send(
        "INSERT INTO author (id, name, sort_name) VALUES (1, 'Ovid', 'Ovid')",
        "INSERT INTO book (id, title, author_id, price) VALUES (1, 'Amores', 1, 0)",
    )
    before = migrated.tables()
    with pytest.raises(DBAPIError, match="ck_book_price"):
        migrated.downgrade("0002")

    assert migrated.tables() == before
    assert migrated.send("SELECT title FROM book") == [("Amores",)]
    assert migrated.send("SELECT version_num FROM alembic_version") == [("0003",)]
    migrated.check()


def test_what_would_be_sent_can_be_read_first(migrated: Migrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """`alembic upgrade 0001 --sql` writes the statements, and connects to nothing."""
    written = io.StringIO()
    command.upgrade(Config(FOLDER / "alembic.ini", output_buffer=written), "0001", sql=True)

    assert "CREATE TABLE author" in written.getvalue()
    assert migrated.tables() == {}
