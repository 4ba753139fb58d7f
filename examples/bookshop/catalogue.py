"""Books to fill the shop with: real classics for people to browse, and made-up rows by the thousand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from sqlalchemy import Table

from .models import Author, Base, Book, Customer, Order, OrderLine, Review

Row: TypeAlias = dict[str, Any]
"""The values of one row by column name."""

# years as they are usually given: of first publication, and estimates for what is older than print
_CLASSICS = Path(__file__).with_name("catalogue.csv")
_BATCH = 1_000  # books made together with all that refers to them; bounds the memory
_OPENING = datetime(2025, 1, 1, tzinfo=UTC)
_YEAR_IN_SECONDS = 365 * 24 * 60 * 60

_ADJECTIVES = ("Broken", "Distant", "Empty", "Frozen", "Gentle", "Hidden", "Lost", "Quiet", "Silent", "Wild")
_NOUNS = ("Bridge", "Garden", "Harbour", "Island", "Mirror", "Orchard", "River", "Shadow", "Tower", "Winter")
_FIRST_NAMES = ("Ada", "Bruno", "Dmitri", "Elif", "Farid", "Greta", "Ines", "Jun", "Kofi", "Lena", "Mateo")
_LAST_NAMES = ("Bianchi", "Costa", "Dahl", "Haddad", "Ito", "Kowalski", "Moreau", "Novak", "Okafor", "Silva")
_LANGUAGES = ("ar", "de", "el", "en", "es", "fr", "it", "ja", "pl", "pt", "ru", "sv", "zh")
_OPINIONS = ("A delight.", "Slow, but worth it.", "I read it in one night.", "Not for me.", "Great, again.")


def classics() -> list[Author]:
    """Return new authors with their books, for `session.add_all`; the same prices and stock each time."""
    random = Random(1)
    authors: dict[str, Author] = {}
    with _CLASSICS.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=1):
            author = authors.setdefault(row["author"], Author(name=row["author"]))
            author.books.append(_classic(number, row, random))
    return list(authors.values())


def generate(count: int, *, first: int = 1_000_001, seed: int = 1) -> Iterator[tuple[Table, list[Row]]]:
    """
    Yield tables with rows for `connection.execute(insert(table), rows)`: *count* books and all around them.

    Authors, customers, orders with lines and reviews come in batches, a row after the rows that it refers to,
    so that memory stays constant. The same arguments give the same rows.

    Args:
        count: Number of books. There are as many reviews, half as many orders, a fifth as many customers and
            a tenth as many authors.
        first: Where the ids begin, in each table. Stay far above the ids that the database gives out:
            PostgreSQL's sequences do not notice ids that were written by hand.
        seed: Another seed gives other rows.
    """
    random = Random(seed)
    ids = range(first, first + count)
    for start in range(0, count, _BATCH):
        for model, rows in _batch(ids[start : start + _BATCH], random):
            yield Base.metadata.tables[model.__tablename__], rows


def _batch(ids: range, random: Random) -> list[tuple[type[Base], list[Row]]]:
    """Return the rows of the books with these *ids*; all rows share the range of ids."""
    authors = [_author(id_, random) for id_ in ids[::10]]
    books = [_book(id_, authors[place // 10], random) for place, id_ in enumerate(ids)]
    customers = [_customer(id_, random) for id_ in ids[::5]]
    baskets = {id_: _lines(id_, books, random) for id_ in ids[::2]}
    orders = [_order(id_, lines, random.choice(customers), random) for id_, lines in baskets.items()]
    opinions = ((book, customer) for customer in customers for book in _some(books, 5, random))
    reviews = [_review(id_, *opinion, random) for id_, opinion in zip(ids, opinions, strict=False)]
    return [
        (Author, authors),
        (Book, books),
        (Customer, customers),
        (Order, orders),
        (OrderLine, list(chain.from_iterable(baskets.values()))),
        (Review, reviews),
    ]


def _classic(number: int, row: dict[str, str], random: Random) -> Book:
    return Book(
        sku=f"CLASSIC-{number:04}",
        title=row["title"],
        year=int(row["year"]),
        language=row["language"],
        price=_price(random),
        stock=random.randint(0, 40),
    )


def _author(id_: int, random: Random) -> Row:
    return {"id": id_, "name": f"{_name(random)} {id_}"}  # the number keeps the name unique


def _book(id_: int, author: Row, random: Random) -> Row:
    return {
        "id": id_,
        "sku": f"BOOK-{id_:010}",
        "title": f"The {random.choice(_ADJECTIVES)} {random.choice(_NOUNS)} {id_}",
        "author_id": author["id"],
        "year": random.randint(1900, 2025),
        "language": random.choice(_LANGUAGES),
        "price": _price(random),
        "stock": random.randint(0, 40),
    }


def _customer(id_: int, random: Random) -> Row:
    return {
        "id": id_,
        "name": _name(random),
        "email": f"customer{id_}@example.com",
        "blocked": random.randrange(50) == 0,
    }


def _lines(order_id: int, books: list[Row], random: Random) -> list[Row]:
    return [
        {
            "order_id": order_id,
            "book_id": book["id"],
            "quantity": random.randint(1, 3),
            "price": book["price"],
        }
        for book in _some(books, random.randint(1, 4), random)
    ]


def _order(id_: int, lines: list[Row], customer: Row, random: Random) -> Row:
    return {
        "id": id_,
        "customer_id": customer["id"],
        "placed_at": _OPENING + timedelta(seconds=random.randrange(_YEAR_IN_SECONDS)),
        "total": sum(line["price"] * line["quantity"] for line in lines),
    }


def _review(id_: int, book: Row, customer: Row, random: Random) -> Row:
    return {
        "id": id_,
        "book_id": book["id"],
        "customer_id": customer["id"],
        "stars": random.randint(1, 5),
        "text": random.choice(_OPINIONS),
    }


def _some(rows: list[Row], count: int, random: Random) -> list[Row]:
    return random.sample(rows, min(count, len(rows)))


def _name(random: Random) -> str:
    return f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}"


def _price(random: Random) -> Decimal:
    return Decimal(random.randint(490, 4990)).scaleb(-2)
