"""What the bookshop reads and answers: plain Pydantic models; inputs are bounded, outputs mirror the rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from fastkit import Schema

SOMETHING = r"[^\s\x1c-\x1f\x85]"
"""At least one character that is no space, in the words of JSON Schema and of Pydantic alike."""

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""The number of a row, as large as an INTEGER column can hold."""

Quantity = Annotated[int, Field(ge=1, le=1_000)]
Price = Annotated[Decimal, Field(ge=0, le=Decimal("9999.99"), decimal_places=2)]
Amount = Annotated[Decimal, Field(gt=0, lt=10**10, decimal_places=2)]
Name = Annotated[str, Field(max_length=100, pattern=SOMETHING), AfterValidator(str.strip)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
Sku = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{1,20}$")]
Email = Annotated[
    str,
    Field(max_length=254, pattern=r"^ *[^@\s\x85]+@[^@\s\x85.]+(\.[^@\s\x85.]+)+ *$"),
    AfterValidator(str.strip),
    AfterValidator(str.lower),
]


class Input(Schema):
    """What a client sends: a misspelt field is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """What a client gets: made from the row of the same shape."""

    model_config = ConfigDict(from_attributes=True)


class AuthorIn(Input):
    """A new author."""

    name: Name = Field(description="Name as it is usually written, unique.", examples=["Jane Austen"])


class AuthorOut(Output):
    """An author."""

    id: Id = Field(description="Number of the author.", examples=[7])
    name: str = Field(description="Name as it is usually written.", examples=["Jane Austen"])


class BookIn(Input):
    """A book to sell."""

    sku: Sku = Field(description="Article number of the shop.", examples=["AUSTEN-EMMA"])
    title: Annotated[str, Field(max_length=200, pattern=SOMETHING), AfterValidator(str.strip)] = Field(
        description="Title in English.",
        examples=["Emma"],
    )
    author_id: Id = Field(description="Number of the author.", examples=[7])
    year: int = Field(ge=-3000, le=2100, description="Year of first publication; negative is BC.", examples=[1815])
    language: Language = Field(description="ISO 639 code of the original.", examples=["en"])
    price: Price = Field(description="Price of one copy.", examples=["9.90"])
    stock: int = Field(ge=0, le=1_000_000, description="Copies in the shop.", examples=[12])


class BookOut(Output):
    """A book with its author."""

    id: Id = Field(description="Number of the book.", examples=[42])
    title: str = Field(description="Title in English.", examples=["Emma"])
    year: int = Field(description="Year of first publication; negative is BC.", examples=[1815])
    language: str = Field(description="ISO 639 code of the original.", examples=["en"])
    price: Decimal = Field(description="Price of one copy.", examples=["9.90"])
    stock: int = Field(description="Copies in the shop.", examples=[12])
    author: AuthorOut = Field(description="Who wrote it.")


class CustomerIn(Input):
    """A new customer."""

    name: Name = Field(description="Full name.", examples=["Ada Lovelace"])
    email: Email = Field(description="Address, unique in the shop; kept in lower case.", examples=["ada@example.com"])


class CustomerPatch(CustomerIn, partial=True):
    """What is to change of a customer; what is absent stays."""


class CustomerOut(Output):
    """A customer."""

    id: Id = Field(description="Number of the customer.", examples=[3])
    name: str = Field(description="Full name.", examples=["Ada Lovelace"])
    email: str = Field(description="Address, unique in the shop.", examples=["ada@example.com"])
    blocked: bool = Field(description="Whether the customer may not order.", examples=[False])


class OrderIn(Input):
    """An order to place."""

    customer_id: Id = Field(description="Who orders.", examples=[3])
    lines: dict[Id, Quantity] = Field(
        min_length=1,
        max_length=50,
        description="Copies wanted, by number of the book.",
        examples=[{"42": 1, "57": 2}],
        json_schema_extra={"propertyNames": {"pattern": "^[1-9][0-9]{0,8}$"}},  # Pydantic does not tell of keys
    )


class OrderLineOut(Output):
    """Copies of one book in an order."""

    book_id: Id = Field(description="Number of the book.", examples=[42])
    quantity: int = Field(description="Copies ordered.", examples=[2])
    price: Decimal = Field(description="Price of one copy when the order was placed.", examples=["9.90"])


class OrderOut(Output):
    """An order with its lines."""

    id: Id = Field(description="Number of the order.", examples=[1001])
    customer_id: Id = Field(description="Who ordered.", examples=[3])
    placed_at: datetime = Field(description="Moment of the order, in UTC.", examples=["2026-01-31T09:30:00Z"])
    total: Decimal = Field(description="Sum of all lines.", examples=["19.80"])
    lines: list[OrderLineOut] = Field(description="What was ordered.")


class ReviewIn(Input):
    """A review to publish; the book is named by the path."""

    customer_id: Id = Field(description="Who writes.", examples=[3])
    stars: int = Field(ge=1, le=5, description="From 1, poor, to 5, excellent.", examples=[5])
    text: Annotated[str, Field(max_length=2000), AfterValidator(str.strip)] = Field(
        description="The review itself; may be empty.",
        examples=["I read it in one night."],
    )


class ReviewOut(Output):
    """A review."""

    id: Id = Field(description="Number of the review.", examples=[314])
    book_id: Id = Field(description="Number of the book.", examples=[42])
    customer_id: Id = Field(description="Who wrote it.", examples=[3])
    stars: int = Field(description="From 1, poor, to 5, excellent.", examples=[5])
    text: str = Field(description="The review itself.", examples=["I read it in one night."])


class PaymentIn(Input):
    """Money received for an order."""

    order_id: Id = Field(description="Number of the order.", examples=[1001])
    reference: Annotated[str, Field(max_length=64, pattern=SOMETHING), AfterValidator(str.strip)] = Field(
        description="Reference of the bank, unique.",
        examples=["BANK-2026-000017"],
    )
    amount: Amount = Field(description="Money received.", examples=["19.80"])


class PaymentOut(Output):
    """A payment."""

    id: Id = Field(description="Number of the payment.", examples=[501])
    order_id: Id = Field(description="Number of the order.", examples=[1001])
    reference: str = Field(description="Reference of the bank.", examples=["BANK-2026-000017"])
    amount: Decimal = Field(description="Money received.", examples=["19.80"])


class StockMove(Input):
    """Copies to move from one edition of a book to another."""

    source: Id = Field(description="Number of the book that gives.", examples=[42])
    target: Id = Field(description="Number of the book that gets.", examples=[57])
    copies: Quantity = Field(description="Copies to move.", examples=[3])
