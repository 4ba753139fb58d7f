"""What the bookshop stores: plain SQLAlchemy models, the same for the sync and the async app.

Relationships are `lazy="raise"`: what a query needs it loads on purpose, so nothing is fetched by accident.
Every foreign key and every column that a list filters or sorts on leads an index: its own or that of a key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    Numeric,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql.compiler import DDLCompiler

from fastkit.models import Versioned


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC and read back in UTC, to the microsecond, on every database."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return *value* in UTC; a naive datetime is a ValueError."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("A naive datetime names no moment: give it a timezone, as datetime.now(UTC).")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return *value* as an aware datetime in UTC: SQLite and MariaDB answer without a timezone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The declarative base; constraints have predictable names, for errors and migrations to use."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        },
    )


class Author(Base):
    """Somebody who wrote books; cannot be deleted while a book is left."""

    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)

    books: Mapped[list[Book]] = relationship(back_populates="author", lazy="raise", passive_deletes="all")


class Book(Base):
    """A book that the shop sells; its reviews go with it."""

    __tablename__ = "book"
    __table_args__ = (
        UniqueConstraint("author_id", "title"),
        CheckConstraint("price >= 0", name="price"),
        CheckConstraint("stock >= 0", name="stock"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), unique=True)
    title: Mapped[str] = mapped_column(String(200), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    year: Mapped[int] = mapped_column(index=True)
    """Year of first publication; negative for years BC."""
    language: Mapped[str] = mapped_column(String(3), index=True)
    """ISO 639 code of the original, `en` or `grc`."""
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), index=True)
    stock: Mapped[int] = mapped_column(index=True)

    author: Mapped[Author] = relationship(back_populates="books", lazy="raise")
    reviews: Mapped[list[Review]] = relationship(
        back_populates="book",
        cascade="all, delete-orphan",
        lazy="raise",
        passive_deletes=True,
    )


class Customer(Versioned, Base):
    """Somebody who buys books, unless blocked; cannot be deleted while an order is left."""

    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    blocked: Mapped[bool] = mapped_column(default=False)

    orders: Mapped[list[Order]] = relationship(back_populates="customer", lazy="raise", passive_deletes="all")


class Order(Base):
    """What a customer bought at one moment; its lines go with it."""

    __tablename__ = "customer_order"  # "order" is a reserved word of SQL

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), index=True)
    placed_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2), index=True)

    customer: Mapped[Customer] = relationship(back_populates="orders", lazy="raise")
    lines: Mapped[list[OrderLine]] = relationship(
        back_populates="order",
        cascade="all, delete-orphan",
        lazy="raise",
        order_by="OrderLine.book_id",
        passive_deletes=True,
    )


class OrderLine(Base):
    """So many copies of one book, at the price of that moment."""

    __tablename__ = "order_line"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("customer_order.id", ondelete="CASCADE"), primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True, index=True)
    quantity: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    """Price of one copy."""

    order: Mapped[Order] = relationship(back_populates="lines", lazy="raise")
    book: Mapped[Book] = relationship(lazy="raise")


class Review(Base):
    """What a customer thinks of a book; one review for each book."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("book_id", "customer_id"),
        CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id", ondelete="CASCADE"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id", ondelete="CASCADE"), index=True)
    stars: Mapped[int] = mapped_column(index=True)
    text: Mapped[str] = mapped_column(String(2000))

    book: Mapped[Book] = relationship(back_populates="reviews", lazy="raise")
    customer: Mapped[Customer] = relationship(lazy="raise")


class Payment(Base):
    """
    Money received for an order: the table whose COMMIT can fail.

    A deferred constraint accepts the INSERT and refuses the COMMIT. PostgreSQL defers both of this table,
    SQLite only the foreign key; MariaDB defers neither and refuses the INSERT.
    """

    __tablename__ = "payment"
    __table_args__ = (UniqueConstraint("reference", deferrable=True, initially="DEFERRED"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(
        ForeignKey("customer_order.id", deferrable=True, initially="DEFERRED"),
        index=True,
    )
    reference: Mapped[str] = mapped_column(String(64))
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))

    order: Mapped[Order] = relationship(lazy="raise")


_DEFERRED = " DEFERRABLE INITIALLY DEFERRED"


@compiles(UniqueConstraint, "sqlite", "mysql", "mariadb")
def _unique(constraint: UniqueConstraint, compiler: DDLCompiler, **kw: Any) -> str:
    """Leave out the clause that these databases do not understand; PostgreSQL keeps it."""
    return compiler.visit_unique_constraint(constraint, **kw).replace(_DEFERRED, "")


@compiles(ForeignKeyConstraint, "mysql", "mariadb")
def _foreign_key(constraint: ForeignKeyConstraint, compiler: DDLCompiler, **kw: Any) -> str:
    """Leave out the clause that these databases do not understand; PostgreSQL and SQLite keep it."""
    return compiler.visit_foreign_key_constraint(constraint, **kw).replace(_DEFERRED, "")
