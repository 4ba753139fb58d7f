"""CRUD services and their routes, on every database and in both colours."""

from email.utils import format_datetime
from types import new_class
from typing import Any
from urllib.parse import quote

import pytest
from conftest import World
from deps.apps import PROBLEM, answer
from fastapi import FastAPI
from repository.scenes import rival_engine
from sqlalchemy import event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.requests import Request
from versions.crud import (
    AsyncAuthors,
    AsyncBooks,
    AuthorNew,
    AuthorOut,
    AuthorPatch,
    Authors,
    BookNew,
    BookPatch,
    BookQuery,
    Books,
    crud_app,
)
from versions.shelf import (
    LONG_AGO,
    AsyncShelf,
    Author,
    Book,
    BookIn,
    BookOut,
    Shelf,
    servers_with_tables,
    world_with_books,
)

from fastkit.database import Database
from fastkit.deps import check_routes, crud_router, install, provide
from fastkit.deps.crud import _location
from fastkit.errors import DeclarationError, NotFoundError, PreconditionFailedError
from fastkit.pages import PageQuery
from fastkit.repository import Repository
from fastkit.schemas import ReadOnly, Schema, apply, partial
from fastkit.schemas._absent import MISSING
from fastkit.service import AsyncCrudService, CrudService, Precondition, Shown
from fastkit.service._crud_declaration import arguments_of
from fastkit.uow import UnitOfWork

pytestmark = pytest.mark.anyio
__all__ = ["servers_with_tables", "world_with_books"]  # fixtures
NEW = {"title": "Sanditon", "stock": 3, "author_id": 1}
MERGE = {"content-type": "application/merge-patch+json"}


def titles(world: World) -> dict[int, str]:
    """Return the titles as somebody else sees them."""
    engine = rival_engine(world)
    with engine.connect() as connection:
        found = {row[0]: row[1] for row in connection.execute(text("SELECT id, title FROM vs_book"))}
    engine.dispose()
    return found


class _Loose(Schema):
    """Says in the other way that a field may be absent."""

    name: str
    facts: dict[str, int] | MISSING = MISSING  # type: ignore[valid-type]


class _Any(Schema):
    """Takes what a client sends."""

    name: str
    facts: dict[str, Any]


class TestRoutes:
    """What a client meets."""

    async def test_a_row_is_created_read_changed_replaced_and_deleted(self, shelf: World) -> None:
        """The whole life of a row, each answer with the tag that the next request takes."""
        app = crud_app(shelf, require_if_match=True)
        created = await answer(app, "/books", "POST", json=NEW)
        place = "/" + created.headers["Location"]
        read = await answer(app, place)
        known = await answer(app, place, headers={"If-None-Match": created.headers["ETag"]})
        tag = {"If-Match": read.headers["ETag"]}
        changed = await answer(app, place, "PATCH", json={"stock": 0}, headers=tag)
        late = await answer(app, place, "PATCH", json={"stock": 9}, headers=tag)
        gone_late = await answer(app, place, "DELETE", headers=tag)
        tag = {"If-Match": changed.headers["ETag"]}
        replaced = await answer(app, place, "PUT", json={"title": "S.", "author_id": 1}, headers=tag)
        gone = await answer(app, place, "DELETE", headers={"If-Match": replaced.headers["ETag"]})

        assert (created.status_code, created.json()["title"]) == (201, "Sanditon")
        assert read.headers["ETag"] == created.headers["ETag"]
        assert known.status_code == 304
        assert changed.json() == {**read.json(), "stock": 0}
        assert [late.status_code, gone_late.status_code] == [412, 412]
        assert replaced.json() == {**read.json(), "title": "S.", "stock": 0}
        assert (gone.status_code, (await answer(app, place)).status_code) == (204, 404)

    async def test_absent_is_not_null(self, shelf: World) -> None:
        """PATCH writes what was sent; null where there must be a value is 422; PUT writes defaults."""
        app = crud_app(shelf)
        await answer(app, "/books/1", "PATCH", json={"stock": 7})
        patched = await answer(app, "/books/1", "PATCH", content=b'{"title": "E"}', headers=MERGE)
        null = await answer(app, "/books/1", "PATCH", json={"title": None})
        put = await answer(app, "/books/1", "PUT", json={"title": "F", "author_id": 1})

        assert patched.json() == {"id": 1, "title": "E", "stock": 7}
        assert (null.status_code, null.headers["content-type"]) == (422, PROBLEM)
        assert null.json()["errors"][0]["pointer"] == "/title"
        assert put.json() == {"id": 1, "title": "F", "stock": 0}

    async def test_a_date_spares_what_the_client_has(self, shelf: World) -> None:
        """Last-Modified where the model has Timestamps, beside the ETag or alone; not where other rows are shown."""
        app, date = crud_app(shelf), format_datetime(LONG_AGO, usegmt=True)
        book, note, deep = [await answer(app, path) for path in ("/books/1", "/notes/1", "/deep/1")]
        seen = {"If-Modified-Since": date}

        assert [each.headers.get("Last-Modified") for each in (book, note, deep)] == [date, date, None]
        assert ["ETag" in each.headers for each in (book, note, deep)] == [True, False, True]
        assert [(await answer(app, path, headers=seen)).status_code for path in ("/books/1", "/notes/1")] == [304, 304]
        assert (await answer(app, "/deep/1", headers=seen)).status_code == 200
        assert (await answer(app, "/notes/1", "PATCH", json={"text": "new"})).json() == {"id": 1, "text": "new"}
        assert (await answer(app, "/notes/1", headers=seen)).json() == {"id": 1, "text": "new"}
        assert "304" in app.openapi()["paths"]["/notes/{note_id}"]["get"]["responses"]

    async def test_a_patch_that_changes_nothing_writes_nothing(self, shelf: World) -> None:
        """Neither an UPDATE nor a new version."""
        statements: list[str] = []
        event.listen(shelf.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        done = await answer(crud_app(shelf), "/books/1", "PATCH", json={"title": "Emma"})

        assert (done.status_code, done.headers["ETag"][:3]) == (200, '"1:')
        assert not [each for each in statements if each.startswith("UPDATE")]

    async def test_without_a_header_a_change_is_made_unless_it_is_required(self, shelf: World) -> None:
        """If-Match is by choice; where it is required its absence is 428."""
        free, strict = crud_app(shelf), crud_app(shelf, require_if_match=True)

        assert (await answer(free, "/books/1", "PATCH", json={"stock": 1})).status_code == 200
        for method, body in (("PATCH", {"stock": 2}), ("PUT", NEW), ("DELETE", None)):
            assert (await answer(strict, "/books/1", method, json=body)).status_code == 428

    async def test_each_route_has_its_budget_of_statements(self, shelf: World) -> None:
        """What the page promises, for a model of one table."""
        app, statements = crud_app(shelf), list[str]()
        event.listen(shelf.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        spent = {}
        for method, path, body in (
            ("GET", "/books", None),
            ("GET", "/books/1", None),
            ("POST", "/books", NEW),
            ("PATCH", "/books/1", {"stock": 4}),
            ("PUT", "/books/1", NEW),
            ("DELETE", "/books/1", None),
        ):
            statements.clear()
            assert (await answer(app, path, method, json=body)).is_success
            words = [each.split(None, 1)[0] for each in statements if "vs_book" in each]
            spent[f"{method} {path}"] = " ".join(words)

        assert spent == {
            "GET /books": "SELECT",  # and a count, unless the page tells how many there are
            "GET /books/1": "SELECT",
            "POST /books": "INSERT SELECT",
            "PATCH /books/1": "SELECT UPDATE SELECT",
            "PUT /books/1": "SELECT UPDATE SELECT",
            "DELETE /books/1": "SELECT DELETE",
        }

    async def test_the_list_takes_its_query(self, shelf: World) -> None:
        """Filters and sorting as declared; anything else is 422."""
        app = crud_app(shelf)
        found = await answer(app, "/books?title=su&sort=-title")
        wrong = await answer(app, "/books?stock=1")

        assert [each["title"] for each in found.json()["items"]] == ["Persuasion", "Lady Susan"]
        assert wrong.status_code == 422

    async def test_rules_and_permissions_answer_for_themselves(self, shelf: World) -> None:
        """What a step raises is a problem document, and nothing is stored."""
        app = crud_app(shelf)
        before = titles(shelf)
        stranger = {"X-Caller": "stranger"}
        bad = await answer(app, "/books", "POST", json={**NEW, "title": "bad"})
        lost = await answer(app, "/books", "POST", json={**NEW, "author_id": 99})
        refused = [
            await answer(app, "/books/1", method, json=body, headers=stranger)
            for method, body in (("PATCH", {"stock": 2}), ("PUT", NEW), ("DELETE", None))
        ]
        seen = await answer(app, "/books/1", headers=stranger)

        assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/title")
        assert lost.status_code == 409
        assert {each.status_code for each in refused} == {403}
        assert seen.status_code == 200
        assert titles(shelf) == before

    async def test_rows_without_a_version_are_locked_instead(self, shelf: World) -> None:
        """They have no tag, so one that is asked for is another one; what is left out is 405."""
        app = crud_app(shelf)
        statements: list[str] = []
        event.listen(shelf.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        changed = await answer(app, "/authors/1", "PATCH", json={"name": "J. A."}, headers={"If-Match": "*"})
        refused = await answer(app, "/authors/1", "PATCH", json={"name": "X"}, headers={"If-Match": '"7"'})
        rubbish = await answer(app, "/authors/1", "PATCH", json={"name": "X"}, headers={"If-Match": "7"})

        assert (changed.status_code, changed.json()) == (200, {"id": 1, "name": "J. A.", "facts": None})
        assert [refused.status_code, rubbish.status_code] == [412, 400]
        assert "ETag" not in changed.headers
        assert "ETag" not in (await answer(app, "/authors/1")).headers
        assert (await answer(app, "/authors/1", "DELETE")).status_code == 405
        assert shelf.server == "SQLite" or [each for each in statements if "FOR UPDATE" in each]

    async def test_a_model_in_one_column_is_stored_as_its_dump(self, shelf: World) -> None:
        """A nested model goes into a column of JSON, when a row is created and when it is changed."""
        app = crud_app(shelf)
        made = await answer(app, "/authors", "POST", json={"name": "Sappho", "facts": {"born": -630}})
        place = "/" + made.headers["Location"]
        changed = await answer(app, place, "PATCH", json={"facts": {"born": -620}})

        assert (made.status_code, made.json()["facts"]) == (201, {"born": -630})
        assert (changed.status_code, (await answer(app, place)).json()["facts"]) == (200, {"born": -620})

    @pytest.mark.parametrize("facts", [r'{"a": "\ud800"}', r'{"\ud800": 1}', '{"a": ' + "[" * 400 + "]" * 400 + "}"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    async def test_what_no_answer_can_hold_is_not_stored(self, shelf: World, facts: str, method: str) -> None:
        """Half a character, and what is too deep, in a column of JSON would make an error of each later answer."""
        base: Any = AsyncCrudService if shelf.driver.is_async else CrudService
        app = FastAPI()
        app.include_router(routed(base[Author, _Any, partial(_Any)], shelf.unit.authors), prefix="/authors")
        install(app, {shelf.unit: shelf.naked})
        place, body = "/authors" if method == "POST" else "/authors/1", '{"name": "x", "facts": ' + facts + "}"
        refused = await answer(app, place, method, content=body, headers={"content-type": "application/json"})
        read = await answer(app, "/authors")

        assert (refused.status_code, refused.headers["content-type"]) == (422, PROBLEM)
        assert (read.status_code, read.json()["items"]) == (200, [{"id": 1, "name": "Jane Austen", "facts": None}])

    @pytest.mark.parametrize("data", [_Loose, AuthorPatch])
    async def test_what_is_absent_is_not_handed_over(self, shelf: World, data: Any) -> None:
        """`MISSING`, and a field that a partial model lacks, are no values of a row that is new or replaced."""
        base: Any = AsyncCrudService if shelf.driver.is_async else CrudService
        app = FastAPI()
        app.include_router(routed(base[Author, data, AuthorPatch], shelf.unit.authors), prefix="/authors")
        install(app, {shelf.unit: shelf.naked})
        made = await answer(app, "/authors", "POST", json={"name": "Sappho"})
        place = "/" + made.headers["Location"]
        await answer(app, place, "PATCH", json={"facts": {"born": -630}})
        replaced = await answer(app, place, "PUT", json={"name": "Alcaeus"})

        assert (made.status_code, made.json()["facts"]) == (201, None)
        assert (replaced.status_code, replaced.json()["name"]) == (200, "Alcaeus")
        assert replaced.json()["facts"] == {"born": -630}

    async def test_the_schema_tells_all_of_it(self, shelf: World) -> None:
        """Operations, problems, headers and media types."""
        schema = crud_app(shelf, require_if_match=True).openapi()
        one = schema["paths"]["/books/{book_id}"]
        patch = one["patch"]

        assert {*schema["paths"]["/books"], *one} == {"get", "post", "put", "patch", "delete"}
        assert {*schema["paths"]["/authors/{author_id}"]} == {"get", "patch"}
        assert patch["operationId"] == "change_book_books__book_id__patch"
        assert {*patch["requestBody"]["content"]} == {"application/json", "application/merge-patch+json"}
        assert {"200", "400", "403", "404", "409", "412", "422", "428", "503"} <= {*patch["responses"]}
        assert "If-Match" in {each["name"] for each in patch["parameters"]}
        assert "304" in one["get"]["responses"]
        assert "ETag" in one["get"]["responses"]["200"]["headers"]
        assert not any(
            each["name"] == "If-Match" for each in schema["paths"]["/authors/{author_id}"]["patch"]["parameters"]
        )

    @pytest.mark.parametrize("kind", ["文", "a b", "a:b", "a?b"])
    async def test_a_place_is_told_below_a_prefix_that_is_a_parameter(self, shelf: World, kind: str) -> None:
        """What the client has sent in the path is no text for a header as it is."""
        app = FastAPI()
        app.include_router(crud_router(AsyncAuthors if shelf.driver.is_async else Authors), prefix="/{kind}")
        install(app, {shelf.unit: shelf.naked})
        created = await answer(app, f"/{quote(kind)}", "POST", json={"name": "Ada"})
        read = await answer(app, "/" + created.headers["Location"])

        assert created.headers["Location"] == f"{quote(kind, safe='')}/{created.json()['id']}"
        assert (read.status_code, read.json()) == (200, created.json())

    async def test_an_action_can_be_written_by_hand(self, shelf: World) -> None:
        """The router is an ordinary one; a path of its own answers where an action was left out."""
        service = AsyncBooks if shelf.driver.is_async else Books
        router = crud_router(service, leave_out=["delete"])

        @router.delete("/{book_id}")
        async def keep(book_id: int) -> str:
            return f"{book_id} is kept"

        app = FastAPI()
        app.include_router(router, prefix="/books")
        install(app, {shelf.unit: shelf.naked})

        assert (await answer(app, "/books/1", "DELETE")).json() == "1 is kept"


class _Checked(Schema):
    """A part of what a client sends is not for it to write."""

    born: int
    verified: ReadOnly[bool] = False


class _AuthorChecked(Schema):
    """Has such a part in one column."""

    name: str
    facts: _Checked | None = None


def test_a_read_only_part_of_a_column_cannot_be_sent() -> None:
    """A model in one column is written as a whole, so one with a field that clients may not write is refused."""
    author, sent = Author(id=1, name="x"), {"name": "x", "facts": {"born": 1, "verified": True}}

    with pytest.raises(DeclarationError, match=r"_Checked\.verified is read-only"):
        apply(author, _AuthorChecked.model_validate(sent))
    with pytest.raises(DeclarationError, match=r"_Checked\.verified is read-only"):
        arguments_of(Author, _AuthorChecked.model_validate(sent))
    assert author.facts is None


def test_fields_that_go_nowhere_are_told_if_nobody_builds() -> None:
    """What is created by a field that the model lacks is an error at import, unless `build` knows it."""
    kind: Any = CrudService[Author, BookIn, AuthorPatch]
    build = {"build": lambda service, data: Author(name=data.title)}
    building = new_class("Building", (kind,), {}, lambda body: body.update(build))

    with pytest.raises(DeclarationError, match="BookIn to Author"):
        routed(kind, Shelf.authors, leave_out=["replace"])
    assert routed(building, Shelf.authors, leave_out=["replace"]) is not None


def test_a_route_that_another_one_hides_is_told_at_start() -> None:
    """An action that is written by hand and not left out would never be called."""
    router = crud_router(Books)

    @router.delete("/{book_id}")
    def keep(book_id: int) -> None: ...

    app = FastAPI()
    app.include_router(router, prefix="/books")
    install(app, {Shelf: Database("sqlite:///file:/hidden?vfs=memdb&uri=true")})

    with pytest.raises(DeclarationError, match=r"DELETE /books/{book_id} \(.*keep\) is never .*leave_out={'delete'}"):
        check_routes(app)


class TestServices:
    """What a script or a test meets."""

    def service(self, world: World, unit: Any) -> Any:
        """Return the service on a unit."""
        return AsyncBooks(unit) if world.driver.is_async else _Awaited(Books(unit.naked))

    async def test_steps_run_in_order(self, shelf: World) -> None:
        """Authorise, validate, build or apply, save, present, commit."""
        async with shelf.serving() as unit:
            books = self.service(shelf, unit)
            created = await books.create(BookNew(title="New", author_id=1))
            await books.change(created.ident, BookPatch(stock=2))
            await books.delete(created.ident)
            await books.page(PageQuery())
            with pytest.raises(NotFoundError):
                await books.get(created.ident)

        assert books.steps == [
            *[("create", True), ("validate", True), "save"],
            *[("change", False), ("validate", False), "save"],
            *[("delete", False), ("list", True), ("get", True)],
        ]

    async def test_results_are_what_is_stored(self, shelf: World) -> None:
        """Answer, version and key of each verb."""
        async with shelf.serving() as unit:
            books = self.service(shelf, unit)
            created = await books.create(BookNew(title="New", author_id=1))
            changed = await books.change(created.ident, BookPatch(stock=2), Precondition(frozenset({created.version})))
            with pytest.raises(PreconditionFailedError):
                await books.replace(created.ident, BookNew(title="x", author_id=1), Precondition(frozenset({"1"})))
            with pytest.raises(NotFoundError):
                await books.get(created.ident + 1000)

        assert (created.version, changed.version) == ("1", "2")
        assert changed.answer == BookOut(id=created.ident, title="New", stock=2)
        assert changed.ident == created.ident

    async def test_a_build_that_returns_nothing_is_named(self, shelf: World) -> None:
        """A forgotten `return` is told with the method that lacks it."""
        if shelf.driver.is_async:
            pytest.skip("the service of this test is sync")

        class Forgetful(Books):
            """Forgets to return."""

            def build(self, data: BookNew) -> Book:
                """Return nothing."""
                return None  # type: ignore[return-value]

        async with shelf.serving() as unit:
            with pytest.raises(TypeError, match=r"Forgetful\.build\(\) returned no Book"):
                Forgetful(unit.naked).create(BookNew(title="New", author_id=1))

    async def test_it_joins_the_block_that_is_open(self, shelf: World) -> None:
        """Within somebody else's block nothing is committed before that is."""
        before = titles(shelf)
        async with shelf.shop() as unit:
            await self.service(shelf, unit).create(BookNew(title="New", author_id=1))
            if shelf.server != "SQLite":
                assert titles(shelf) == before
            await unit.rollback()

        assert titles(shelf) == before


class _Awaited:
    """A sync service whose verbs can be awaited."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._service, name)
        if not callable(value):
            return value

        async def call(*given: Any) -> Any:
            return value(*given)

        return call


class _Base(DeclarativeBase):
    """Models for declarations."""


class _Pair(_Base):
    """Has two keys."""

    __tablename__ = "vs_pair"
    a: Mapped[int] = mapped_column(primary_key=True)
    b: Mapped[int] = mapped_column(primary_key=True)


class _Pairs(UnitOfWork):
    """A unit for it."""

    pairs: Repository[_Pair]


class _PairOut(Schema):
    """What is shown."""

    a: int
    b: int


async def refused(service: Any, data: Any, entity: Any) -> None:
    """Be a step that is awaited."""


def declared(base: Any, repository: Any, shows: Any = BookOut, **more: Any) -> Any:
    """Return a service class that says this."""
    attributes = {"shows": shows, **more} if repository is None else {"repository": repository, "shows": shows, **more}
    return new_class("Made", (base,), {}, lambda body: body.update(attributes))


def routed(base: Any, repository: Any, shows: Any = AuthorOut, **options: Any) -> Any:
    """Return the router of such a class."""
    return crud_router(declared(base, repository, shows), **options)


OF_BOOKS: Any = CrudService[Book, BookNew, BookPatch]
OF_SHELF: Any = AsyncCrudService[Book, BookNew, BookPatch]
OF_AUTHORS: Any = CrudService[Author, AuthorPatch, AuthorPatch]
OF_PAIRS: Any = CrudService[_Pair, _PairOut, _PairOut]
WRONG = {
    "repository is named on its unit": lambda: declared(OF_BOOKS, "books"),
    "does not say what it is about": lambda: declared(CrudService, Shelf.books),
    "is about Book, and Shelf.authors is not": lambda: declared(OF_BOOKS, Shelf.authors),
    "inherit from AsyncCrudService": lambda: declared(OF_BOOKS, AsyncShelf.books),
    "what it shows is a Pydantic model": lambda: declared(OF_BOOKS, Shelf.books, dict),
    "has no `repository`": lambda: routed(OF_BOOKS, None),
    "takes a subclass of CrudService": lambda: crud_router(dict),  # type: ignore[arg-type]
    "there is no 'remove'": lambda: crud_router(Books, leave_out=["remove"]),  # type: ignore[list-item]
    "Author has no version": lambda: routed(OF_AUTHORS, Shelf.authors, require_if_match=True),
    "has several columns": lambda: routed(OF_PAIRS, _Pairs.pairs, _PairOut),
    "BookIn to Author: .*'title'": lambda: routed(CrudService[Author, BookIn, AuthorPatch], Shelf.authors),
    "BookNew to Author: .*'title'": lambda: routed(CrudService[Author, AuthorPatch, BookNew], Shelf.authors),
    "BookOut.title": lambda: routed(OF_AUTHORS, Shelf.authors, BookOut),
    "BookQuery is about Book, and the": lambda: routed(OF_AUTHORS, Shelf.authors, query=BookQuery),
    "a PATCH would need name of AuthorNew": lambda: routed(CrudService[Author, AuthorNew, AuthorNew], Shelf.authors),
    "did you mean 'authorise'": lambda: declared(OF_BOOKS, Shelf.books, authorize=print),
    "validate is a step of the other colour: write `def ": lambda: declared(OF_BOOKS, Shelf.books, validate=refused),
    "save is a step of the other colour: write `async def": lambda: declared(OF_SHELF, AsyncShelf.books, save=print),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_work_is_told_at_import(message: str) -> None:
    """A service that says too little, or the wrong thing, is a DeclarationError with the remedy."""
    with pytest.raises(DeclarationError, match=message):
        WRONG[message]()


def test_the_repository_may_be_of_a_subclass() -> None:
    """What is created is then one of the repository, which would not find another."""

    class Pair(_Pair):
        """Is a pair."""

    class Pairs(UnitOfWork):
        """A unit for it."""

        pairs: Repository[Pair]

    assert declared(OF_PAIRS, Pairs.pairs).model is Pair
    assert declared(OF_PAIRS, _Pairs.pairs).model is _Pair


def test_a_service_without_all_of_it_is_a_step_on_the_way() -> None:
    """A class between may leave open what its subclasses say; brackets are inherited."""

    class Stored(CrudService[Book, BookNew, BookPatch]):
        """Leaves open where."""

    class OnShelf(Stored):
        """Says it."""

        repository = Shelf.books
        shows = BookOut

    assert (OnShelf.model, OnShelf.creates, OnShelf.changes) == (Book, BookNew, BookPatch)
    assert provide(OnShelf).dependency.fastkit_holds is Shelf


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [("/books", 7, "books/7"), ("/books/", 7, "7"), ("/a/books", "a/b?", "books/a%2Fb%3F"), ("/", 7, "7")],
)
def test_a_new_row_is_told_relative_to_its_list(path: str, key: Any, place: str) -> None:
    """Whatever stands before the app, the place is found from the list; a key is quoted."""
    scope = {"type": "http", "path": path, "query_string": b"", "headers": [], "server": ("shop", 80), "scheme": "http"}

    assert _location(Request(scope), Shown(None, None, key)) == place
