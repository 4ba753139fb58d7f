"""Pages that a route turns into JSON as they are: whoever looks at one sees the page of response models."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from threading import Barrier
from typing import Any, ClassVar, Self

import pytest
from conftest import World
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from pydantic_core import to_json, to_jsonable_python
from repository.scenes import ON_SQLITE, recorded

from bookshop.models import Book
from fastkit.pages import Page, PageQuery, Slice, Window, WindowQuery
from fastkit.repository import _deferred
from fastkit.repository._deferred import DEFERRING, json_of
from fastkit.repository._projection import Projection
from fastkit.schemas import Schema

pytestmark = pytest.mark.anyio


class AuthorOut(Schema):
    """An author."""

    name: str


class BookOut(Schema):
    """A book, plainly."""

    id: int
    title: str = Field(serialization_alias="called")
    price: Decimal
    author: AuthorOut


class ShelfOut(Schema):
    """An author with all books."""

    name: str
    books: list[BookOut]


class ShoutedOut(Schema):
    """A book with a validator."""

    title: str

    @field_validator("title")
    @classmethod
    def shout(cls, title: str) -> str:
        """Return it in capitals."""
        return title.upper()


class CountedOut(BaseModel):
    """A book that is noted when it is made."""

    made: ClassVar[int] = 0
    title: str

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Note it."""
        CountedOut.made += 1
        return super().__new__(cls)


class CostlyOut(BaseModel):
    """A book whose price needs a conversion."""

    price: float


class Around(BaseModel):
    """A page in another model."""

    inner: Any


class Strictly(BaseModel):
    """Same, that looks at the page again."""

    model_config = ConfigDict(revalidate_instances="always")

    inner: Page[BookOut]


def kind_of(page: Any) -> Any:
    """Return which of the three a page is, for any of its subclasses."""
    return next(kind for kind in VERBS if isinstance(page, kind))


def matched(page: Any) -> Any:
    """Return what a pattern finds."""
    match page:
        case Page(items=[BookOut(id=number)]) | Slice(items=[BookOut(id=number)]) | Window(items=[BookOut(id=number)]):
            return number
        case _:
            return None


def interrupted(made: Any) -> Any:
    """Return what makes response models, and fails when it is almost done."""

    def make(*arguments: Any) -> Any:
        made(*arguments)
        raise RecursionError

    return make


def looks_of(threads: int, page: Any) -> list[dict[str, Any]]:
    """Return what threads see that look at a page at the same time."""
    together = Barrier(threads)

    def look(_: int) -> dict[str, Any]:
        together.wait()
        return {"items": page.items, **vars(page)}

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(look, range(threads)))


def kept_of(page: Any) -> Any:
    """Return what an untouched page is made of, or rather what makes it."""
    return _deferred._attributes(page)[_deferred._KEPT].models


VERBS: dict[Any, Any] = {
    Page: lambda reader: reader.page(PageQuery(size=1)),
    Slice: lambda reader: reader.slice(PageQuery(size=1)),
    Window: lambda reader: reader.window(WindowQuery(size=1)),
}
PAST: Any = object
LOOKS: dict[str, Any] = {
    "items": lambda page: page.items,
    "size": lambda page: page.size,
    "an attribute": lambda page: getattr(page, "next_cursor", None) or getattr(page, "total", None),
    "no attribute": lambda page: getattr(page, "nothing", "nothing"),
    "fields": lambda page: sorted(page.model_fields_set),
    "map": lambda page: page.map(lambda book: book.id).items,
    "model_dump": lambda page: page.model_dump(),
    "model_dump_json": lambda page: page.model_dump_json(by_alias=True, indent=1),
    "adapter": lambda page: TypeAdapter(type(page)).dump_python(page),
    "adapter of its type": lambda page: TypeAdapter(kind_of(page)[BookOut]).dump_json(page, by_alias=True),
    "adapter of anything": lambda page: TypeAdapter(Any).dump_python({"page": page}),
    "validation": lambda page: TypeAdapter(kind_of(page)[BookOut]).validate_python(page),
    "attributes": lambda page: TypeAdapter(Around).validate_python({"inner": page}).model_dump(),
    "without validation": lambda page: Around.model_construct(inner=page).model_dump_json(),
    "again": lambda page: Strictly(inner=page) if kind_of(page) is Page else None,
    "to_json": lambda page: to_json([page], by_alias=True),
    "to_jsonable": to_jsonable_python,
    "encoder": jsonable_encoder,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda page: page.model_copy(update={"size": 9}),
    "replace": lambda page: page.__replace__(size=9),
    "pickle": lambda page: pickle.loads(pickle.dumps(page)),
    "repr": repr,
    "str": str,
    "vars": vars,
    "iter": dict,
    "set": lambda page: (setattr(page, "size", 7), dict(page)),
    "set items": lambda page: (setattr(page, "items", []), dict(page)),
    "add": lambda page: (page.items.append("more"), dict(page)),
    "delete": lambda page: (delattr(page, "size"), dict(page)),
    "match": matched,
    "class": lambda page: (page.__class__, page.__doc__),
    "schema": lambda page: page.model_json_schema(),
    "another of its class": lambda page: page.__class__(**{**dict(page), "size": 9}),
    "another of its type": lambda page: type(page)(**{**dict(page), "size": 9}),
    "method of its class": lambda page: page.model_construct(items=[], size=9),
    "validation by its class": lambda page: page.model_validate({**VALUES, "size": 9}),
    "reduce": lambda page: page.__reduce__()[1],
    "set past the class": lambda page: (PAST.__setattr__(page, "size", 7), dict(page)),
    "set items past the class": lambda page: (PAST.__setattr__(page, "items", []), dict(page)),
    "add past the class": lambda page: (PAST.__setattr__(page, "mark", 7), page.items, page.mark, list(vars(page))),
    "delete past the class": lambda page: (PAST.__delattr__(page, "size"), dict(page)),
    "get past the class": lambda page: PAST.__getattribute__(page, "items"),
    "set all": lambda page: (PAST.__setattr__(page, "__dict__", {"items": [], "size": 7}), dict(page)),
    "set state": lambda page: (page.__setstate__(page.model_construct(size=7).__getstate__()), dict(page)),
    "init": lambda page: (page.__init__(**VALUES, size=7), dict(page)),
}
VALUES: dict[str, Any] = {
    "items": [],
    "total": 1,
    "page": 1,
    "has_more": False,
    "next_cursor": None,
    "previous_cursor": None,
}


@pytest.fixture
def deferring() -> Iterator[None]:
    """Read as inside a route that makes JSON of what is returned."""
    token = DEFERRING.set([True])
    yield
    DEFERRING.reset(token)


@pytest.fixture(params=VERBS)
async def pages(request: pytest.FixtureRequest, stocked: World) -> Any:
    """Return a page of response models, and the same that nobody has looked at."""
    read = VERBS[request.param]
    async with stocked.serving() as shop:
        plain = await read(shop.books.into(BookOut))
        token = DEFERRING.set([True])
        untouched = await read(shop.books.into(BookOut))
        DEFERRING.reset(token)
    assert type(plain) is request.param
    assert type(untouched) is not request.param
    return plain, untouched


@ON_SQLITE
@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_sees_response_models(pages: Any, look: str) -> None:
    """From Python and from Rust, at all of it or a part; and what is left is an ordinary page."""
    plain, untouched = pages
    assert LOOKS[look](untouched) == LOOKS[look](plain)
    assert plain == untouched
    assert type(untouched) is type(plain)
    assert json_of(untouched, type(plain), BookOut) is None


@ON_SQLITE
def test_it_equals_what_it_stands_for(pages: Any) -> None:
    """On either side."""
    plain, untouched = pages
    again = copy.copy(plain)
    assert (untouched == again, again != untouched) == (True, False)


@ON_SQLITE
def test_it_equals_a_page_of_the_same_type_of_items(pages: Any) -> None:
    """As what it stands for does, though Pydantic asks for the class."""
    plain, untouched = pages
    assert type(plain)[BookOut].model_construct(**vars(plain)) == untouched


@ON_SQLITE
def test_it_is_json_already(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are FastAPI's, and no response model is made for them."""
    plain, untouched = pages
    monkeypatch.setattr(Projection, "_made", None)
    expected = TypeAdapter(type(plain)[BookOut]).validate_python(plain)

    assert json_of(untouched, type(plain), BookOut) == TypeAdapter(type(expected)).dump_json(expected, by_alias=True)
    assert json.loads(json_of(untouched, type(plain), BookOut) or b"")["items"][0]["called"] == "Emma"


@ON_SQLITE
def test_it_is_not_the_json_of_another_type(pages: Any) -> None:
    """A route that declares something else converts the page, as ever."""
    plain, untouched = pages
    others = {Page, Slice, Window} - {type(plain)}
    assert [json_of(untouched, other, BookOut) for other in others] == [None, None]
    assert json_of(untouched, type(plain), AuthorOut) is None
    assert json_of(plain, type(plain), BookOut) is None
    assert json_of(None, type(plain), BookOut) is None


@ON_SQLITE
def test_what_cannot_be_json_is_left_to_pydantic(pages: Any) -> None:
    """Half of a character, or too long a number: the error is Pydantic's, as is the JSON if it can write it."""
    plain, untouched = pages
    attributes = _deferred._attributes(untouched)
    kept = attributes[_deferred._KEPT]
    attributes[_deferred._KEPT] = replace(kept, attributes={**kept.attributes, "size": "\ud800"})

    assert json_of(untouched, type(plain), BookOut) is None
    assert untouched.items == plain.items


@pytest.mark.usefixtures("deferring")
async def test_what_belongs_to_rows_is_read_once(stocked: World) -> None:
    """Looking at the page after its session has ended sends nothing."""
    async with stocked.serving() as shop:
        with recorded(stocked) as sent:
            page = await shop.authors.into(ShelfOut).page(PageQuery())
    assert type(page) is not Page
    with recorded(stocked) as later:
        titles = [book.title for book in page.items[0].books]

    assert (len(sent), later) == (2, [])
    assert sorted(titles) == ["Emma", "Persuasion"]


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
async def test_a_second_look_reads_nothing_either(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read stays until response models have been made of it."""
    async with stocked.serving() as shop:
        page = await shop.authors.into(ShelfOut).page(PageQuery())
    with monkeypatch.context() as patch, suppress(RecursionError):
        patch.setattr(Projection, "_made", interrupted(Projection._made))
        assert page.items == "never"

    assert sorted(book.title for book in page.items[0].books) == ["Emma", "Persuasion"]


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
async def test_many_threads_may_look(stocked: World) -> None:
    """They all see the same response models, however they meet."""
    threads, interval = 4, sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            async with stocked.serving() as shop:
                page = await shop.authors.into(ShelfOut).page(PageQuery())
            seen = looks_of(threads, page)
            assert [list(each) for each in seen] == [["items", "total", "page", "size"]] * threads
            assert len({id(each["items"]) for each in seen}) == 1
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
async def test_it_keeps_no_session_and_leaves_nothing(stocked: World) -> None:
    """A page that an app keeps is no reason to keep more; nor must it wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        async with stocked.serving() as shop:
            page = await shop.authors.into(ShelfOut).page(PageQuery())
            session, rows = weakref.ref(shop.session), weakref.ref(kept_of(page))
        del shop
        gc.collect()
        assert (type(page) is not Page, session()) == (True, None)
        del page
        assert rows() is None
    finally:
        gc.enable()


@ON_SQLITE
async def test_a_reader_outlives_the_route(stocked: World) -> None:
    """Whoever keeps it, or goes on with the context of the request, reads ordinary pages afterwards."""
    waiting = [True]
    token = DEFERRING.set(waiting)
    async with stocked.serving() as shop:
        reader = shop.books.into(BookOut)
        before = await reader.page(PageQuery())
        waiting.clear()
        pages = [await each.page(PageQuery()) for each in (reader, shop.books.into(BookOut))]
    DEFERRING.reset(token)

    assert type(before) is not Page
    assert [type(page) for page in pages] == [Page, Page]


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
async def test_an_empty_page(stocked: World) -> None:
    """Has no rows, and a total."""
    async with stocked.serving() as shop:
        page = await shop.books.into(BookOut).page(PageQuery(page=9))

    assert json_of(page, Page, BookOut) == b'{"items":[],"total":2,"page":9,"size":20}'
    assert page.items == []


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
@pytest.mark.parametrize("schema", [ShoutedOut, CountedOut, CostlyOut])
async def test_what_pydantic_must_look_at_is_not_deferred(stocked: World, schema: Any) -> None:
    """A model that does more, and rows that need a conversion."""
    async with stocked.serving() as shop:
        page = await shop.books.into(schema).page(PageQuery())

    assert type(page) is Page
    assert {type(item) for item in page.items} == {schema}


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
async def test_a_number_that_pydantic_converts(stocked: World) -> None:
    """The bounds of a query that code has made may be of other types, and a page tells them."""
    query = PageQuery.model_construct(page=True, size=1)
    async with stocked.serving() as shop:
        reader = shop.books.into(BookOut)
        pages = [await reader.page(query), await reader.slice(query)]
        pages += [await reader.window(WindowQuery.model_construct(cursor=None, size=True))]

    assert [type(page) for page in pages] == [Page, Slice, Window]


@pytest.mark.usefixtures("deferring")
@ON_SQLITE
async def test_only_pages_are_deferred(stocked: World) -> None:
    """Single models and lists are what they always are; so are objects."""
    async with stocked.serving() as shop:
        reader = shop.books.into(BookOut).order_by(Book.title)
        found = [await reader.get(1), await reader.first(), *(await reader.all())]
        objects = await shop.books.page(PageQuery())

    assert {type(each) for each in found} == {BookOut}
    assert {type(each) for each in objects.items} == {Book}


def test_all_that_looks_at_the_class_first_is_known() -> None:
    """Each special method of Pydantic's models that is not among the attributes, or that reads them."""
    special = {name for name, method in vars(BaseModel).items() if name.startswith("__") and callable(method)}
    by_attributes = {"__iter__", "__getattr__", "__getstate__", "__setstate__"}
    of_the_class = {name for name in special if name.startswith(("__pydantic", "__get_pydantic")) or "class" in name}
    shown = {"__repr_args__", "__repr_name__", "__repr_recursion__", "__repr_str__", "__pretty__", "__rich_repr__"}

    assert special - by_attributes - of_the_class - shown - {"__init__"} <= set(_deferred._PAST_ATTRIBUTES)
