"""The HTTP face of the bookshop: a route calls a service, or reads or stores by itself where nothing is decided."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from bookshop.asynchronous.services import AddBook, PlaceOrder, WriteReview
from bookshop.asynchronous.shop import Shop
from bookshop.models import Author, Book, Customer, Payment, Review
from bookshop.queries import BookQuery
from bookshop.schemas import (
    AuthorIn,
    AuthorOut,
    BookIn,
    BookOut,
    CustomerIn,
    CustomerOut,
    CustomerPatch,
    Id,
    OrderIn,
    OrderOut,
    PaymentIn,
    PaymentOut,
    ReviewIn,
    ReviewOut,
)
from fastkit import Page, PageQuery
from fastkit.deps import found, listed, provide, unit_of_work
from fastkit.responses import etag
from fastkit.schemas import apply

ShopDep = Annotated[Shop, unit_of_work(Shop)]
PageDep = Annotated[PageQuery, Query()]

router = APIRouter()


@router.get("/authors")
async def list_authors(shop: ShopDep, query: PageDep) -> Page[AuthorOut]:
    """Return the authors by name."""
    return await shop.authors.order_by(Author.name).into(AuthorOut).page(query)


@router.post("/authors", status_code=201)
async def add_author(new: AuthorIn, shop: ShopDep) -> AuthorOut:
    """Add an author; each name once."""
    async with shop.begin():
        author = shop.authors.add(Author(**new.model_dump()))
    return AuthorOut.model_validate(author)


@router.get("/books")
async def list_books(shop: ShopDep, query: Annotated[BookQuery, listed(BookQuery)]) -> Page[BookOut]:
    """Return the books that a client asks for, with their authors: two statements, however many books."""
    return await shop.books.into(BookOut).page(query)


@router.post("/books", status_code=201)
async def add_book(new: BookIn, add: Annotated[AddBook, provide(AddBook)]) -> BookOut:
    """Add a book of an author."""
    return await add(new)


@router.get("/books/{book_id}")
async def read_book(book: Annotated[BookOut, found(Shop.books, BookOut)]) -> BookOut:
    """Return a book with its author."""
    return book


@router.delete("/books/{book_id}", status_code=204)
async def remove_book(book: Annotated[Book, found(Shop.books)], shop: ShopDep) -> None:
    """Remove a book and its reviews; one that was ordered stays."""
    async with shop.begin():
        await shop.books.delete(book)


@router.get("/books/{book_id}/reviews")
async def list_reviews(book: Annotated[Book, found(Shop.books)], shop: ShopDep, query: PageDep) -> Page[ReviewOut]:
    """Return the reviews of a book, the oldest first."""
    return await shop.reviews.into(ReviewOut).page(query, Review.book_id == book.id)


@router.post("/books/{book_id}/reviews", status_code=201)
async def write_review(book_id: Id, new: ReviewIn, write: Annotated[WriteReview, provide(WriteReview)]) -> ReviewOut:
    """Review a book that one has bought; each customer once."""
    return await write(book_id, new)


@router.get("/customers")
async def list_customers(shop: ShopDep, query: PageDep) -> Page[CustomerOut]:
    """Return the customers by name."""
    return await shop.customers.order_by(Customer.name).into(CustomerOut).page(query)


@router.post("/customers", status_code=201)
async def register(new: CustomerIn, shop: ShopDep) -> CustomerOut:
    """Register a customer; each email address once."""
    async with shop.begin():
        customer = shop.customers.add(Customer(**new.model_dump()))
    return CustomerOut.model_validate(customer)


@router.get("/customers/{customer_id}")
async def read_customer(customer: Annotated[CustomerOut, found(Shop.customers, CustomerOut)]) -> CustomerOut:
    """Return a customer, with an ETag for who wants to change it."""
    return customer


@router.patch("/customers/{customer_id}")
async def change_customer(
    customer: Annotated[Customer, found(Shop.customers)], patch: CustomerPatch, shop: ShopDep, response: Response
) -> CustomerOut:
    """Change what was sent; with If-Match, only the version that the client has seen."""
    async with shop.begin():
        apply(customer, patch)
    shown = CustomerOut.model_validate(customer)
    response.headers["ETag"] = etag(shown, of=customer)
    return shown


@router.post("/orders", status_code=201)
async def place_order(new: OrderIn, place: Annotated[PlaceOrder, provide(PlaceOrder)]) -> OrderOut:
    """Order books; all that speaks against it is told at once."""
    return await place(new.customer_id, new.lines)


@router.get("/orders/{order_id}")
async def read_order(order: Annotated[OrderOut, found(Shop.orders, OrderOut)]) -> OrderOut:
    """Return an order with its lines."""
    return order


@router.post("/payments", status_code=201)
async def record_payment(new: PaymentIn, shop: ShopDep) -> PaymentOut:
    """Record money received; that the order exists is checked by the database, some only at the commit."""
    async with shop.begin():
        payment = shop.payments.add(Payment(**new.model_dump()))
    return PaymentOut.model_validate(payment)
