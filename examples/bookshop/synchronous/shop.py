"""The unit of work of the bookshop: which repositories share one transaction."""

from __future__ import annotations

from bookshop.models import Author, Book, Customer, Order, OrderLine, Payment, Review
from fastkit import Repository, UnitOfWork


class Orders(Repository[Order]):
    """The orders, and what the shop asks of them."""

    def contain(self, book: Book, *, of: Customer) -> bool:
        """Return whether a customer has ordered a book."""
        return self.exists(Order.customer_id == of.id, Order.lines.any(OrderLine.book_id == book.id))


class Shop(UnitOfWork):
    """What the bookshop reads and writes."""

    authors: Repository[Author]
    books: Repository[Book]
    customers: Repository[Customer]
    orders: Orders
    payments: Repository[Payment]
    reviews: Repository[Review]
