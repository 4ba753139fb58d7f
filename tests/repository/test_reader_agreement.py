"""A reader says what the objects say, whatever the rows are."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from repository.scenes import rival_engine
from servers import DRIVERS
from sqlalchemy import Column, Engine, ForeignKey, MetaData, Numeric, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from fastkit.repository import Repository
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio
ON_SYNC = pytest.mark.parametrize(
    "driver",
    [driver for driver in DRIVERS if driver.name in {"sqlite", "postgresql+psycopg"}],
    indirect=True,
    ids=lambda driver: driver.id,
)


class Base(DeclarativeBase):
    """The base of the tree."""

    metadata = MetaData()


LABELS = Table(
    "ra_label",
    Base.metadata,
    Column("book_id", ForeignKey("ra_book.id")),  # neither is a key: the same pair may be there twice
    Column("tag_id", ForeignKey("ra_tag.id")),
)


class Author(Base):
    """Who wrote, and whose pupil that is."""

    __tablename__ = "ra_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(5))
    mentor_id: Mapped[int | None] = mapped_column(ForeignKey("ra_author.id"))
    mentor: Mapped[Author | None] = relationship(remote_side="Author.id", back_populates="pupils")
    pupils: Mapped[list[Author]] = relationship(back_populates="mentor", order_by="Author.id")
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.price, Book.id")


class Book(Base):
    """What was written, by somebody or by nobody known."""

    __tablename__ = "ra_book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None] = mapped_column(String(5))
    price: Mapped[Decimal | None] = mapped_column(Numeric(6, 2))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("ra_author.id"))
    author: Mapped[Author | None] = relationship(back_populates="books")
    tags: Mapped[list[Tag]] = relationship(secondary=LABELS, order_by="Tag.id", back_populates="books")
    reviews: Mapped[list[Review]] = relationship(order_by="Review.stars.desc(), Review.id")


class Tag(Base):
    """What is said of many books."""

    __tablename__ = "ra_tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(5))
    books: Mapped[list[Book]] = relationship(secondary=LABELS, order_by="Book.id", back_populates="tags")


class Review(Base):
    """What is said of one book."""

    __tablename__ = "ra_review"

    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int | None]
    book_id: Mapped[int] = mapped_column(ForeignKey("ra_book.id"))


class AuthorOut(Schema):
    """One related row, with another one."""

    id: int
    name: str | None


class PupilOut(AuthorOut):
    """The same, both ways."""

    mentor: AuthorOut | None
    pupils: list[AuthorOut]


class ReviewOut(Schema):
    """A leaf."""

    id: int
    stars: int | None


class TagOut(Schema):
    """Another one."""

    name: str


class BookOut(Schema):
    """The middle."""

    id: int
    title: str | None
    price: Decimal | None
    author: PupilOut | None
    tags: list[TagOut]
    reviews: list[ReviewOut]


class ShelfOut(AuthorOut):
    """Lists in a list."""

    mentor: AuthorOut | None
    books: list[BookOut]


class LabelOut(Schema):
    """Many to many, from the other side, and back."""

    name: str
    books: list[BookOut]


class Numbers(Schema):
    """What is counted."""

    tags: Annotated[int, From.count("tags")]
    reviews: Annotated[int, From.count("reviews")]
    stars: Annotated[int | None, From.sum("reviews.stars")]
    least: Annotated[int | None, From.min("reviews.stars")]
    names: Annotated[list[str], From("tags.name")]
    last: Annotated[list[TagOut], From("tags", order_by="-id", limit=2)]
    above: Annotated[str | None, From("author.mentor.name")]

    @classmethod
    def of(cls, book: Book) -> Numbers:
        """Return what Python counts."""
        stars = [review.stars for review in book.reviews if review.stars is not None]
        mentor = book.author.mentor if book.author else None
        return cls(
            tags=len(book.tags),
            reviews=len(book.reviews),
            stars=sum(stars) if stars else None,
            least=min(stars, default=None),
            names=[tag.name for tag in book.tags],
            last=[TagOut(name=tag.name) for tag in book.tags[::-1][:2]],
            above=mentor.name if mentor else None,
        )


def texts() -> Any:
    """Return short words, and none."""
    return st.none() | st.text("ab", max_size=3)


@st.composite
def rows(draw: Any) -> dict[Table, list[dict[str, Any]]]:
    """Return rows that refer to each other, in the order in which they can be stored."""
    authors, books, tags = (draw(st.integers(0, most)) for most in (4, 5, 3))
    some = lambda count: st.sampled_from(range(1, count + 1)) if count else st.none()
    perhaps = lambda count: st.none() | some(count)
    prices = st.none() | st.sampled_from([Decimal("0.00"), Decimal("1.50"), Decimal("99.99")])
    number = lambda count, **more: [
        {"id": key} | {name: draw(each) for name, each in more.items()} for key in range(1, count + 1)
    ]
    pairs = draw(st.lists(st.tuples(some(books), some(tags)), max_size=8)) if books and tags else []
    reviews = draw(st.integers(0, 6)) if books else 0
    found: Any = {
        Author: number(authors, name=texts(), mentor_id=perhaps(authors)),
        Book: number(books, title=texts(), price=prices, author_id=perhaps(authors)),
        Tag: number(tags, name=st.text("ab", max_size=3)),
        Review: number(reviews, stars=st.none() | st.integers(1, 3), book_id=some(books)),
    }
    tables = {model.__table__: values for model, values in found.items()}
    return {**tables, LABELS: [{"book_id": book, "tag_id": tag} for book, tag in pairs]}


@pytest.fixture
def engine(world: World) -> Iterator[Engine]:
    """Return an engine for a database with the tables."""
    engine = rival_engine(world)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def store(session: Session, found: dict[Table, list[dict[str, Any]]]) -> None:
    """Store these rows instead of those before; mentors in the end, because the first may be the pupil of the last."""
    session.execute(Author.__table__.update().values(mentor_id=None))  # type: ignore[attr-defined]
    for table in reversed(Base.metadata.sorted_tables):
        session.execute(table.delete())
    for table, values in found.items():
        if values:
            session.execute(
                table.insert(), [{**each, "mentor_id": None} if "mentor_id" in each else each for each in values]
            )
    for each in found[Author.__table__]:  # type: ignore[index]
        session.execute(Author.__table__.update().filter_by(id=each["id"]).values(mentor_id=each["mentor_id"]))  # type: ignore[attr-defined]
    session.commit()


@ON_SYNC
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=rows())
def test_a_reader_agrees_with_the_objects(engine: Engine, found: dict[Table, list[dict[str, Any]]]) -> None:
    """What is read at once is what Pydantic makes of the objects, which load it bit by bit, in the same order."""
    with Session(engine) as session:
        store(session, found)
        cases: list[tuple[Any, Any, Any]] = [
            (Book, Book.title, BookOut),
            (Author, Author.name, ShelfOut),
            (Tag, Tag.name, LabelOut),
        ]
        for model, key, schema in cases:
            objects = Repository(session, model).order_by(key).all()
            reader = Repository(session, model).order_by(key).into(schema)
            expected = [schema.model_validate(each) for each in objects]
            assert reader.all() == expected
            assert reader.json().all() == TypeAdapter(list[schema]).dump_json(expected)  # type: ignore[valid-type]
        books = Repository(session, Book).order_by(Book.id)
        numbers = [Numbers.of(each) for each in books.all()]
        assert books.into(Numbers).all() == numbers
        assert books.into(Numbers).json().all() == TypeAdapter(list[Numbers]).dump_json(numbers)
