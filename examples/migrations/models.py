"""What the app stores now; the folder `versions` says how it came to that."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, MetaData, Numeric, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit import NAMING_CONVENTION


class Base(DeclarativeBase):
    """The declarative base; each constraint has a name that a migration can say, the same on every database."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Author(Base):
    """Somebody who wrote books."""

    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    sort_name: Mapped[str] = mapped_column(String(100), index=True)
    """Surname first, "Austen, Jane"; since 0002."""


class Book(Base):
    """A book; it goes with its author."""

    __tablename__ = "book"
    __table_args__ = (
        UniqueConstraint("author_id", "title"),  # of the title alone, before 0003
        CheckConstraint("price >= 0", name="price"),  # above zero, before 0003: now books may be free
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id", ondelete="CASCADE"), index=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
