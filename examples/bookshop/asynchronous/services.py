"""The use cases in which there is something to decide: fetch, validate, call the pure domain, save."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from bookshop import ordering
from bookshop.asynchronous.shop import Shop
from bookshop.models import Book, Review
from bookshop.schemas import BookIn, BookOut, OrderOut, ReviewIn, ReviewOut
from fastkit import Service, rules


class PlaceOrder(Service[Shop]):
    """Sell copies of books to a customer."""

    async def __call__(self, customer_id: int, lines: Mapping[int, int]) -> OrderOut:
        """Return the order; *lines* is the quantity wanted by number of the book."""
        async with self.uow as shop:
            customer = await shop.customers.get_one(customer_id)
            # locked in one order, so that two orders of the same books cannot wait for each other
            books = await shop.books.for_update().order_by(Book.id).all(Book.id.in_(lines))
            with rules() as rule:
                rule(not customer.blocked, "This customer is blocked", at="customer_id")
                for number in ordering.unknown(books, lines):
                    rule(False, "There is no such book", at=f"lines.{number}")
                for book in ordering.shortages(books, lines):
                    rule(False, f"{book.stock} left of {book.title!r}", at=f"lines.{book.id}")
            order = ordering.place(customer, books, lines, now=datetime.now(UTC))
            shop.orders.add(order)
            await shop.commit()
            return OrderOut.model_validate(order)


class AddBook(Service[Shop]):
    """Put a new book on the shelf."""

    async def __call__(self, new: BookIn) -> BookOut:
        """Return the book with its author."""
        async with self.uow as shop:
            author = await shop.authors.get(new.author_id)
            with rules() as rule:
                rule(author is not None, "There is no such author", at="author_id")
            book = shop.books.add(Book(**new.model_dump(exclude={"author_id"}), author=author))
            await shop.commit()
            return BookOut.model_validate(book)


class WriteReview(Service[Shop]):
    """Publish what a customer thinks of a book."""

    async def __call__(self, book_id: int, new: ReviewIn) -> ReviewOut:
        """Return the review; only who bought the book may write one."""
        async with self.uow as shop:
            book = await shop.books.get_one(book_id)
            customer = await shop.customers.get_one(new.customer_id)
            bought = await shop.orders.contain(book, of=customer)
            with rules() as rule:
                rule(not customer.blocked, "This customer is blocked", at="customer_id")
                rule(bought, "Only who bought the book may review it", at="customer_id")
            review = shop.reviews.add(Review(book_id=book_id, **new.model_dump()))
            await shop.commit()
            return ReviewOut.model_validate(review)
