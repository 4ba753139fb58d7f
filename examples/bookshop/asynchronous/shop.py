"""The unit of work of the bookshop: which repositories share one transaction."""

from __future__ import annotations

from bookshop.models import Author, Book, Customer, Order, OrderLine, Payment, Review
from fastkit import AsyncRepository, AsyncUnitOfWork


class Orders(AsyncRepository[Order]):
    """The orders, and what the shop asks of them."""

    async def contain(self, book: Book, *, of: Customer) -> bool:
        """Return whether a customer has ordered a book."""
        return await self.exists(Order.customer_id == of.id, Order.lines.any(OrderLine.book_id == book.id))


class Shop(AsyncUnitOfWork):
    """What the bookshop reads and writes."""

    authors: AsyncRepository[Author]
    books: AsyncRepository[Book]
    customers: AsyncRepository[Customer]
    orders: Orders
    payments: AsyncRepository[Payment]
    reviews: AsyncRepository[Review]
