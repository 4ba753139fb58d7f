"""Models whose rows have a version, and an app that tells it, in both colours."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from conftest import World
from deps.apps import coloured
from fastapi import APIRouter, FastAPI, Response
from repository.scenes import rival_engine
from sqlalchemy import JSON, Engine, ForeignKey, String, delete, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from fastkit.deps import DirectRoute, IfMatch, IfNoneMatch, RequiredIfMatch, found, install, transaction, unit_of_work
from fastkit.models import Timestamps, Versioned
from fastkit.pages import Page, PageQuery
from fastkit.repository import AsyncRepository, Repository
from fastkit.responses import etag
from fastkit.schemas import Schema
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

LONG_AGO = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


class Base(DeclarativeBase):
    """The metadata of these models."""


class Author(Base):
    """Has no version."""

    __tablename__ = "vs_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class Book(Timestamps, Versioned, Base):
    """Has a version that counts, and a date."""

    __tablename__ = "vs_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    stock: Mapped[int] = mapped_column(default=0)
    author_id: Mapped[int] = mapped_column(ForeignKey("vs_author.id"))
    author: Mapped[Author] = relationship(lazy="raise")


class Label(Base):
    """Has a version that is no number."""

    __tablename__ = "vs_label"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50))
    mark: Mapped[UUID] = mapped_column()
    __mapper_args__ = {"version_id_col": mark, "version_id_generator": lambda _: uuid4()}  # noqa: RUF012 - SQLAlchemy's


class Note(Timestamps, Base):
    """Has a date, and no version."""

    __tablename__ = "vs_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50))


class Shelf(UnitOfWork):
    """The unit, sync."""

    authors: Repository[Author]
    books: Repository[Book]
    labels: Repository[Label]
    notes: Repository[Note]


class AsyncShelf(AsyncUnitOfWork):
    """The unit, async."""

    authors: AsyncRepository[Author]
    books: AsyncRepository[Book]
    labels: AsyncRepository[Label]
    notes: AsyncRepository[Note]


class BookIn(Schema):
    """What a client sends."""

    title: str
    stock: int = 0


class BookOut(Schema):
    """What is shown: columns of the row."""

    id: int
    title: str
    stock: int


class AuthorOut(Schema):
    """Another row."""

    name: str


class DeepOut(Schema):
    """What is shown of two rows."""

    id: int
    title: str
    author: AuthorOut


class LabelOut(Schema):
    """What is shown of a label."""

    id: int
    text: str


def fill(engine: Engine) -> None:
    """Store an author, three books, a label and a note."""
    with Session(engine) as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))
        author = Author(id=1, name="Jane Austen")
        titles = {1: "Emma", 2: "Persuasion", 3: "Lady Susan"}
        changed = LONG_AGO + timedelta(microseconds=123456)  # which no header tells
        dates = {"created_at": changed, "updated_at": changed}
        session.add_all(Book(id=key, title=title, author=author, **dates) for key, title in titles.items())
        session.add_all([Label(id=1, text="new"), Note(id=1, text="kept", **dates)])
        session.flush()
        if engine.dialect.name == "postgresql":
            for table in Base.metadata.sorted_tables:
                session.execute(text(f"ALTER SEQUENCE {table.name}_id_seq RESTART WITH 1000"))
        session.commit()


def app_of(world: World, route_class: Any = DirectRoute, **options: Any) -> FastAPI:  # noqa: C901 - endpoints
    """Return an app that tells versions, and takes them back."""
    unit = world.unit
    shelf_dep: Any = Annotated[unit, unit_of_work(unit)]
    router = APIRouter(route_class=route_class)

    def route(method: str, path: str, answers: Any = None, **more: Any) -> Any:
        def add(work: Any) -> Any:
            router.add_api_route(path, coloured(world, work), methods=[method], response_model=answers, **more)
            return work

        return add

    @route("GET", "/books/{book_id}", BookOut)
    async def book(book: Annotated[Any, found(unit.books, BookOut)]) -> Any:
        return book

    @route("GET", "/deep/{book_id}", DeepOut)
    async def deep(book: Annotated[Any, found(unit.books, DeepOut)]) -> Any:
        return book

    @route("GET", "/titles/{book_id}")
    async def title(book: Annotated[Any, found(unit.books, BookOut)]) -> Any:
        return {"title": book.title}

    @route("GET", "/labels/{label_id}", LabelOut)
    async def label(label: Annotated[Any, found(unit.labels, LabelOut)]) -> Any:
        return label

    @route("GET", "/books", Page[BookOut])
    async def books(shelf: shelf_dep, if_none_match: IfNoneMatch) -> Any:
        reader = shelf.books.into(BookOut)
        if_none_match.check(await reader.versions().page(PageQuery()))
        return await reader.page(PageQuery())

    @route("PUT", "/books/{book_id}", BookOut)
    async def replace(
        book: Annotated[Any, found(unit.books)], new: BookIn, shelf: shelf_dep, response: Response
    ) -> Any:
        async with shelf.begin():
            book.title, book.stock = new.title, new.stock
        shown = BookOut.model_validate(book)
        response.headers["ETag"] = etag(shown, book)
        return shown

    @route("DELETE", "/books/{book_id}", status_code=204)
    async def remove(book: Annotated[Any, found(unit.books, require_if_match=True)], shelf: shelf_dep) -> None:
        async with shelf.begin():
            await shelf.books.delete(book)

    @route("PUT", "/locked/{book_id}", BookOut)
    async def locked(
        book: Annotated[Any, found(unit.books.for_update())], new: BookIn, shelf: Annotated[Any, transaction(unit)]
    ) -> Any:
        book.title = new.title
        return BookOut.model_validate(book)

    @route("PUT", "/books/{book_id}/labels/{label_id}", LabelOut)
    async def put_label(
        book: Annotated[Any, found(unit.books)], label: Annotated[Any, found(unit.labels)], shelf: shelf_dep
    ) -> Any:
        async with shelf.begin():
            label.text = book.title
        return LabelOut.model_validate(label)

    @route("PUT", "/authors/{author_id}")
    async def name(author: Annotated[Any, found(unit.authors)], new: AuthorOut, shelf: shelf_dep) -> str:
        async with shelf.begin():
            author.name = new.name
        return new.name

    @route("PATCH", "/services/{book_id}", BookOut)
    async def service(book_id: int, new: BookIn, shelf: shelf_dep, if_match: IfMatch) -> Any:
        async with shelf.begin():
            book = await shelf.books.get_one(book_id)
            if_match.check(book)
            book.title = new.title
        return BookOut.model_validate(book)

    @route("PATCH", "/strict/{book_id}", BookOut)
    async def strict(book_id: int, new: BookIn, shelf: shelf_dep, if_match: RequiredIfMatch) -> Any:
        async with shelf.begin():
            book = await shelf.books.get_one(book_id)
            if_match.check(book)
            book.title = new.title
        return BookOut.model_validate(book)

    app = FastAPI()
    app.include_router(router)
    install(app, {unit: world.naked}, **options)
    return app


@pytest.fixture(name="with_shelf", scope="session")
def servers_with_tables() -> set[str]:
    """Return the servers that have the tables already."""
    return set()


@pytest.fixture(name="shelf")
def world_with_books(world: World, with_shelf: set[str]) -> World:
    """Return a database with three books."""
    engine = rival_engine(world)
    if world.server == "SQLite" or world.server not in with_shelf:
        with_shelf.add(world.server)
        Base.metadata.create_all(engine)
    fill(engine)
    engine.dispose()
    world.unit = AsyncShelf if world.driver.is_async else Shelf
    return world
