"""Pages of what becomes JSON as it is; response models are made of their rows for whom looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import Any, TypeAlias, TypeVar, cast

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from fastkit.pages import Count, Page, PageQuery, Slice, Window, WindowQuery
from fastkit.repository._json import JsonProjection, encoding_of
from fastkit.repository._projection import Projection

B = TypeVar("B", bound=BaseModel)
_Rows: TypeAlias = Sequence[Sequence[Any]]

DEFERRING: ContextVar[Sequence[bool]] = ContextVar("fastkit_deferring", default=())
"""Not empty while a route waits for pages to make JSON of; it empties it, for tasks that go on with this context."""

_KEPT = " kept"
"""Where an untouched page keeps what it is made of: among its attributes, by a name that is none."""
_attributes: Callable[[object], dict[str, Any]] = BaseModel.__dict__["__dict__"].__get__
_set_attributes: Callable[[object, dict[str, Any]], None] = BaseModel.__dict__["__dict__"].__set__
_set_class: Callable[[object, type[Any]], None] = object.__dict__["__class__"].__set__


def deferred(projection: Projection[B]) -> Projection[B]:
    """Return a projection of the same rows whose pages are deferred, if a route has asked for that and it can be."""
    if not DEFERRING.get():
        return projection
    model: Any = projection.selection.model
    schema: Any = projection.schema
    if encoding_of(schema, model).plan is None:
        return projection
    return _Deferring(projection.selection, projection.schema, projection.ready)


def json_of(found: object, kind: type[Any], schema: type[BaseModel]) -> bytes | None:
    """Return the JSON of a page of this kind and response model, or None if Pydantic is to make it."""
    kept: _Kept | None = _attributes(found).get(_KEPT) if isinstance(found, _Untouched) else None
    if not kept or (kept.kind, kept.schema) != (kind, schema):
        return None
    try:
        return kept.encode(kept.attributes)
    except PydanticSerializationError:  # which Pydantic tells in its own words
        return None


@dataclass(frozen=True, slots=True)
class _Keeping(JsonProjection):
    """A projection that keeps the rows of which no response models are made, and those that were read for them."""

    kept: list[tuple[_Rows, Sequence[_Rows]]] = field(default_factory=list)

    def _keep(self, rows: _Rows, read: Sequence[_Rows]) -> None:
        self.kept.append((rows, read))


@dataclass(frozen=True, slots=True)
class _Deferring(Projection[B]):
    """A projection whose pages are made of response models only when somebody looks at them."""

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> Page[B]:
        """Return one page and the total, both of one moment where the database can give that."""
        return cast("Page[B]", self._deferred("page", session, query, *where, count=count))

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[B]:
        """Return one page and whether there are more."""
        return cast("Slice[B]", self._deferred("slice", session, query, *where))

    def window(self, session: Session, query: WindowQuery, *where: ColumnElement[bool]) -> Window[B]:
        """Return what follows a cursor, or comes before it."""
        return cast("Window[B]", self._deferred("window", session, query, *where))

    def _deferred(self, verb: str, session: Session, *arguments: Any, **more: Any) -> Any:
        if not DEFERRING.get() or not _is_usual(arguments[0]):
            return getattr(Projection, verb)(self, session, *arguments, **more)
        keeping = _Keeping.like(self)
        page = getattr(keeping, verb)(session, *arguments, **more)
        if not keeping.kept:  # these rows are left to Pydantic
            return page
        attributes = _attributes(page)
        models = partial(_models, self, *keeping.kept[0])
        kept = _Kept(type(page), self.schema, {**attributes}, keeping.encoding.encode, models)
        del attributes["items"]
        attributes[_KEPT] = kept
        _set_class(page, _UNTOUCHED[type(page)])
        return page


def _is_usual(query: Any) -> bool:
    """Return whether the numbers of a query, which a page tells, become JSON as they are."""
    return {type(query.size), type(getattr(query, "page", 1))} == {int}


def _models(projection: Projection[Any], rows: _Rows, read: Sequence[_Rows]) -> list[Any]:
    """Return the response models of rows, and of those that were read for them in this order."""
    left, nowhere = iter(read), cast("Session", None)
    return Projection._made(projection, nowhere, rows, lambda *_: next(left))  # noqa: SLF001 - its own


@dataclass(frozen=True, slots=True)
class _Kept:
    """
    What an untouched page is made of.

    Attributes:
        kind: What it stands for.
        schema: The response model of its rows.
        attributes: Its attributes, with what is encoded for its rows.
        encode: Makes JSON of it.
        models: Makes response models of its rows, and perhaps of one more.
        lock: Held while it is made into what it stands for: several threads may look at one that an app keeps.
    """

    kind: type[BaseModel]
    schema: type[BaseModel]
    attributes: Mapping[str, Any]
    encode: Callable[[Mapping[str, Any]], bytes]
    models: Callable[[], list[Any]]
    lock: RLock = field(default_factory=RLock)


def _touch(page: Any) -> None:
    """Make an untouched page what it stands for."""
    kept: _Kept | None = _attributes(page).get(_KEPT)
    if kept is not None:
        with kept.lock:
            attributes = {**_attributes(page)}
            if attributes.pop(_KEPT, None) is not None:
                items = kept.models()[: len(kept.attributes["items"])]
                _set_attributes(page, {**kept.attributes, **attributes, "items": items})  # at once: others may look
    _set_class(page, page.__class__)  # without anything kept, it is one that a method of its class makes


class _Untouched:
    """A page that becomes an ordinary one as soon as somebody asks for its items, or for what it is made of."""

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _KINDS.get(type(self), type(self))

    @property
    def __dict__(self) -> dict[str, Any]:  # Pydantic looks here, from Rust as well
        _touch(self)
        return _attributes(self)

    @__dict__.setter
    def __dict__(self, attributes: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        _touch(self)
        _set_attributes(self, attributes)


def _touching(name: str) -> Callable[..., Any]:
    def touch_first(self: Any, *arguments: Any, **more: Any) -> Any:
        _touch(self)
        return getattr(self, name)(*arguments, **more)

    return touch_first


def _attribute(name: str) -> property:
    """Return an attribute that is found before those of the page, even by the methods of `object`."""

    def look(page: Any) -> Any:
        if name == "items":
            _touch(page)
        return _attributes(page)[name]

    def put(page: Any, value: Any) -> None:
        _touch(page)
        object.__setattr__(page, name, value)

    def drop(page: Any) -> None:
        _touch(page)
        object.__delattr__(page, name)

    return property(look, put, drop)


_PAST_ATTRIBUTES = (
    *("__copy__", "__deepcopy__", "__replace__", "__reduce__", "__reduce_ex__", "__eq__", "__repr__", "__str__"),
    *("__setattr__", "__delattr__"),
)
"""What looks at the class first, or notes a change."""


def _untouched(kind: type[BaseModel]) -> type[Any]:
    methods = {name: _touching(name) for name in _PAST_ATTRIBUTES}
    told = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    made: type[Any] = type(kind.__name__, (_Untouched, kind), {**methods, **told})
    for name in kind.model_fields:
        setattr(made, name, _attribute(name))  # not at once: Pydantic would take it for a default
    return made


_UNTOUCHED = {kind: _untouched(kind) for kind in (Page, Slice, Window)}
_KINDS = {untouched: kind for kind, untouched in _UNTOUCHED.items()}
