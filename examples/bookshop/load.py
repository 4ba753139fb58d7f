"""
Fill a database with the bookshop's catalogue; again changes nothing.

    python -m bookshop.load
    python -m bookshop.load --books 5000    # that many made-up books more
    BOOKSHOP_DATABASE=postgresql+psycopg://me@localhost/shop python -m bookshop.load
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from sqlalchemy import func, insert, make_url, select

from bookshop.catalogue import classics, generate
from bookshop.models import Author, Base, Book, Customer, Order, Review
from bookshop.synchronous.shop import Shop
from fastkit import Database

_SYNC = {"sqlite+aiosqlite": "sqlite", "postgresql+asyncpg": "postgresql+psycopg", "mariadb+asyncmy": "mariadb+pymysql"}
_FIRST = 1_000_001  # far above the numbers that the database gives out


def load(database_url: str, *, books: int = 0) -> None:
    """
    Make the tables that are missing and load the classics, three customers and made-up books.

    Args:
        database_url: The database; the driver may be the async one.
        books: How many made-up books there should be, at least.
    """
    url = make_url(database_url)
    with Database(url.set(drivername=_SYNC.get(url.drivername, url.drivername))) as database:
        database.create_all(Base.metadata)
        with Shop(database) as shop:
            load_classics(shop)
            load_generated(shop, books)
            shop.commit()


def load_classics(shop: Shop) -> None:
    """Add the classics and three customers, one of them blocked, unless they are there."""
    if not shop.books.exists(Book.sku.startswith("CLASSIC-")):
        shop.authors.add_all(classics())
    if not shop.customers.exists(Customer.email.endswith("@bookshop.example")):
        shop.customers.add_all(
            [
                Customer(name="Ada Lovelace", email="ada@bookshop.example"),
                Customer(name="Bartleby", email="bartleby@bookshop.example", blocked=True),
                Customer(name="Charles Babbage", email="charles@bookshop.example"),
            ]
        )


def load_generated(shop: Shop, wanted: int) -> None:
    """Add made-up books, and all around them, until there are as many as wanted."""
    missing = wanted - shop.books.count(Book.sku.startswith("BOOK-"))
    if missing > 0:
        largest = [shop.session.scalar(select(func.max(m.id))) or 0 for m in (Author, Book, Customer, Order, Review)]
        for table, rows in generate(missing, first=max(_FIRST, *(number + 1 for number in largest))):
            shop.session.execute(insert(table), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Load what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bookshop.load", description="Fill a bookshop's database.")
    parser.add_argument("--books", type=int, default=0, metavar="N", help="made-up books to have besides the classics")
    parser.add_argument(
        "--database",
        default=os.environ.get("BOOKSHOP_DATABASE", "sqlite:///bookshop.db"),
        metavar="URL",
        help="where to; by default $BOOKSHOP_DATABASE, or bookshop.db in this folder",
    )
    chosen = parser.parse_args(arguments)
    load(chosen.database, books=chosen.books)
    print(f"The catalogue is in {make_url(chosen.database).render_as_string()}")


if __name__ == "__main__":
    main()
