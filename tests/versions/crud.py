"""CRUD services on the shelf, in both colours, and an app for them."""

from typing import Annotated, Any

from conftest import World
from fastapi import Depends, FastAPI, Header
from versions.shelf import AsyncShelf, Author, Book, BookIn, BookOut, DeepOut, LabelOut, Note, Shelf

from fastkit.deps import crud_router, install
from fastkit.errors import FastkitError
from fastkit.repository import Contains, ListQuery, Sort
from fastkit.schemas import Schema
from fastkit.service import AsyncCrudService, CrudService, rules


class NotYoursError(FastkitError):
    """Somebody may not do this."""

    status = 403
    title = "Not yours"
    public = True


class BookNew(BookIn):
    """What a client sends to create."""

    author_id: int


class BookPatch(BookNew, partial=True):
    """What a client sends to change."""


class Facts(Schema):
    """A model in one column."""

    born: int


class AuthorNew(Schema):
    """What an author is created by."""

    name: str
    facts: Facts | None = None


class AuthorPatch(AuthorNew, partial=True):
    """What an author is changed by."""


class AuthorOut(Schema):
    """What is shown of an author."""

    id: int
    name: str
    facts: Facts | None


class NoteNew(Schema):
    """What a note is created by."""

    text: str


class NotePatch(NoteNew, partial=True):
    """What a note is changed by."""


class BookQuery(ListQuery[Book]):
    """What a client may ask."""

    title: Contains[str] = None
    sort = Sort("id", "title", default="id")


def refuse_bad(data: Any) -> None:
    """Refuse a title."""
    with rules() as rule:
        rule(getattr(data, "title", None) != "bad" if "title" in data.model_fields_set else True, "Bad", at="title")


class Books(CrudService[Book, BookNew, BookPatch]):
    """Sync."""

    repository = Shelf.books
    shows = BookOut
    problems = (NotYoursError,)

    def __init__(self, uow: Shelf, x_caller: Annotated[str, Header()] = "owner") -> None:
        super().__init__(uow)
        self.caller = x_caller
        self.steps: list[Any] = []

    def authorise(self, action: Any, entity: Book | None) -> None:
        """Note it, and refuse strangers."""
        self.steps.append((action, entity is None))
        if self.caller == "stranger" and action not in {"list", "get"}:
            raise NotYoursError

    def validate(self, data: BookNew | BookPatch, entity: Book | None) -> None:
        """Note it, and refuse a title."""
        self.steps.append(("validate", entity is None))
        refuse_bad(data)

    def save(self, entity: Book) -> None:
        """Note it."""
        self.steps.append("save")
        super().save(entity)


class AsyncBooks(AsyncCrudService[Book, BookNew, BookPatch]):
    """Async."""

    repository = AsyncShelf.books
    shows = BookOut
    problems = (NotYoursError,)

    def __init__(self, uow: AsyncShelf, x_caller: Annotated[str, Header()] = "owner") -> None:
        super().__init__(uow)
        self.caller = x_caller
        self.steps: list[Any] = []

    async def authorise(self, action: Any, entity: Book | None) -> None:
        """Note it, and refuse strangers."""
        self.steps.append((action, entity is None))
        if self.caller == "stranger" and action not in {"list", "get"}:
            raise NotYoursError

    async def validate(self, data: BookNew | BookPatch, entity: Book | None) -> None:
        """Note it, and refuse a title."""
        self.steps.append(("validate", entity is None))
        refuse_bad(data)

    async def save(self, entity: Book) -> None:
        """Note it."""
        self.steps.append("save")
        await super().save(entity)


class Authors(CrudService[Author, AuthorNew, AuthorPatch]):
    """Sync, of rows without a version."""

    repository = Shelf.authors
    shows = AuthorOut


class AsyncAuthors(AsyncCrudService[Author, AuthorNew, AuthorPatch]):
    """Async, of rows without a version."""

    repository = AsyncShelf.authors
    shows = AuthorOut


class Notes(CrudService[Note, NoteNew, NotePatch]):
    """Sync, of rows with a date and no version."""

    repository = Shelf.notes
    shows = LabelOut


class AsyncNotes(AsyncCrudService[Note, NoteNew, NotePatch]):
    """Async, of rows with a date and no version."""

    repository = AsyncShelf.notes
    shows = LabelOut


class DeepBooks(CrudService[Book, BookNew, BookPatch]):
    """Sync, of rows that are shown with others."""

    repository = Shelf.books
    shows = DeepOut


class AsyncDeepBooks(AsyncCrudService[Book, BookNew, BookPatch]):
    """Async, of rows that are shown with others."""

    repository = AsyncShelf.books
    shows = DeepOut


def crud_app(world: World, **options: Any) -> FastAPI:
    """Return an app with all services."""
    books, authors = (AsyncBooks, AsyncAuthors) if world.driver.is_async else (Books, Authors)
    app = FastAPI(dependencies=[Depends(_nothing)])
    app.include_router(crud_router(books, query=BookQuery, **options), prefix="/books", tags=["books"])
    app.include_router(crud_router(authors, leave_out={"delete", "replace"}), prefix="/authors", tags=["authors"])
    notes, deep = (AsyncNotes, AsyncDeepBooks) if world.driver.is_async else (Notes, DeepBooks)
    app.include_router(crud_router(notes), prefix="/notes", tags=["notes"])
    app.include_router(crud_router(deep), prefix="/deep", tags=["deep"])
    install(app, {world.unit: world.naked})
    return app


async def _nothing() -> None:
    """Depend on nothing."""
