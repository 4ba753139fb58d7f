"""How the bookshop takes an order: the pure domain, which knows neither a database nor HTTP."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from .models import Book, Customer, Order, OrderLine


def unknown(books: Iterable[Book], lines: Mapping[int, int]) -> list[int]:
    """Return the numbers in *lines*, book number to quantity, that no book in *books* has."""
    return sorted(lines.keys() - {book.id for book in books})


def shortages(books: Iterable[Book], lines: Mapping[int, int]) -> list[Book]:
    """Return the books of which *lines* ask for more copies than there are."""
    return [book for book in books if lines.get(book.id, 0) > book.stock]


def total(lines: Iterable[OrderLine]) -> Decimal:
    """Return what *lines* cost together."""
    return sum((line.price * line.quantity for line in lines), Decimal("0.00"))


def place(customer: Customer, books: Collection[Book], lines: Mapping[int, int], *, now: datetime) -> Order:
    """
    Return the order of *customer* and take its copies out of the stock of *books*.

    Raises:
        ValueError: The caller did not validate: a blocked customer, books that are not those of *lines*,
            a quantity below one, or a shortage. Nothing was changed.
    """
    _check(customer, books, lines)
    order_lines = [_take(book, lines[book.id]) for book in books]
    return Order(customer=customer, placed_at=now, total=total(order_lines), lines=order_lines)


def _check(customer: Customer, books: Collection[Book], lines: Mapping[int, int]) -> None:
    if customer.blocked:
        raise ValueError("A blocked customer cannot order: validate the customer before place().")
    if not lines or len(books) != len(lines) or unknown(books, lines):
        raise ValueError("An order has lines, each of one book: validate with unknown() before place().")
    if min(lines.values()) < 1 or shortages(books, lines):
        raise ValueError("A quantity is below one or too large: validate with shortages() before place().")


def _take(book: Book, quantity: int) -> OrderLine:
    book.stock -= quantity
    return OrderLine(book=book, quantity=quantity, price=book.price)
