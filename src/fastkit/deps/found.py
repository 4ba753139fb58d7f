"""A row named by the path, or a 404 problem."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, get_origin

from fastapi import Depends, Path
from pydantic import BaseModel, PydanticUserError, TypeAdapter
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, QueryableAttribute
from sqlalchemy.sql.base import ExecutableOption
from starlette.requests import HTTPConnection
from typing_extensions import get_annotations

from fastkit.deps.conditional import precondition_of, required
from fastkit.deps.units import transaction, unit_of_work
from fastkit.errors import DeclarationError
from fastkit.repository import Selection
from fastkit.repository._marked import by_key, marks_of, matching
from fastkit.repository.versions import shows_own_columns, version_attribute, versioned
from fastkit.responses._conditional import marks_of as marks_in
from fastkit.responses.etags import Validators
from fastkit.uow import AsyncUnitOfWork, RepositoryAttribute


def found(
    repository: Any,
    schema: type[BaseModel] | None = None,
    *,
    path: str | None = None,
    options: Sequence[ExecutableOption] = (),
    require_if_match: bool = False,
) -> Any:
    """
    Return the dependency that gives what the path names, an object or a response model, or answers 404.

    >>> @app.get("/books/{book_id}")
    ... async def book(book: Annotated[BookOut, found(Shop.books, BookOut)]) -> BookOut:
    ...     return book

    If the model has a version (`version_id_col`), a route that answers with the response model tells an ETag, and 304
    to a client that has it. A PUT, PATCH or DELETE of the object looks at If-Match: another version is a 412, now or
    when it is written.

    Args:
        repository: The repository, named on the class of its unit of work: `Shop.books`. `Shop.books.for_update()`
            locks the row, in a block that is open for the whole endpoint and commits, that of `transaction(Shop)`.
        schema: The response model to read the row into; without it, the object is given.
        path: The path parameter; without it, the model's name with "_id", as in `book_id`. If the model has an
            attribute of that name, such as `slug`, the row is found by it, otherwise by the primary key.
        options: Loader options, for relationships that the response shows.
        require_if_match: Whether a PUT, PATCH or DELETE without If-Match is answered 428.

    Raises:
        DeclarationError: The first argument is no repository of a unit of work, its key has several columns, or the
            second is no response model; a lock or If-Match with a response model, which cannot be changed, or
            If-Match without a version. That a field of it comes from nothing is told when the app starts.
    """
    if not isinstance(repository, RepositoryAttribute):
        raise DeclarationError("found() takes a repository named on its unit of work's class: found(Shop.books).")
    given: object = schema
    if given is not None and not (isinstance(given, type) and issubclass(given, BaseModel)):
        raise DeclarationError(f"found({repository!r}, ...): the second argument is a response model, not {given!r}.")
    if schema is not None and (require_if_match or repository.lock is not None):
        raise DeclarationError(
            f"found({repository!r}, {schema.__name__}): to change a row, take its object, found({repository!r}); "
            "a response model can be made of it afterwards."
        )
    if require_if_match:
        versioned(repository.model, f"found({repository!r}, require_if_match=True)")
    name = path or f"{_snake_case(repository.model.__name__)}_id"
    finder = _Finder(repository, name, schema, tuple(options), require_if_match)
    return Depends(_dependency(finder))


@dataclass(frozen=True, eq=False)
class _Finder:
    """Finds what the path names."""

    repository: RepositoryAttribute
    name: str
    schema: type[BaseModel] | None
    options: tuple[ExecutableOption, ...]
    requires: bool

    @cached_property
    def key(self) -> ColumnElement[Any]:
        """Return what the row is found by."""
        return _key(self.repository, self.name)

    @cached_property
    def is_primary(self) -> bool:
        """Return whether that is the primary key."""
        return self.key is Selection(self.repository.model).primary_key[0]

    @cached_property
    def marks(self) -> bool:
        """Return whether the state of a row can be told."""
        model: Any = self.repository.model
        return bool(marks_of(model))

    def ask(self, unit: Any, value: Any) -> Any:
        """Return the answer, or what is to be awaited for it."""
        view = self.repository.reads(unit).with_options(*self.options)
        if self.schema is None:
            return view.one(self.key == value)
        reader = view.into(self.schema)
        return reader.get_one(value) if self.is_primary else reader.one(self.key == value)

    def marked(self, unit: Any, value: Any) -> Any:
        """Same as `ask`, for a response model with what marks the state of its row."""
        reader = self.repository.reads(unit).with_options(*self.options).into(self.schema)
        read: Any = by_key if self.is_primary else matching
        asked = (reader._projection, value if self.is_primary else self.key == value)  # noqa: SLF001 - no name for apps
        is_async = isinstance(unit.session, AsyncSession)
        return unit.session.run_sync(read, *asked) if is_async else read(unit.session, *asked)

    # -- conditional requests

    def tells_state_of(self, method: str | None, route: Any) -> bool:
        """Return whether the answer of a route will be the response model, so that its state is that of the answer."""
        answers = getattr(route, "response_model", None) is self.schema is not None
        return self.marks and answers and method in {"GET", "HEAD"}

    def told_state(self, connection: HTTPConnection, marked: Any) -> Any:
        """Return the response model, and note the state of its row for the answer."""
        shown, version, modified = marked
        model: Any = self.repository.model
        dated = shows_own_columns(self.schema, model)  # of another row nobody knows when it was changed
        marks_in(connection.scope).append(Validators(version, modified if dated else None))
        return shown

    def checked(self, connection: HTTPConnection, entity: Any) -> Any:
        """Return the object, if the client may change it in this version."""
        scope = connection.scope
        if self.is_changed(scope.get("method"), [*scope.get("path_params", {})]):
            if self.requires:
                required(connection)
            precondition = precondition_of(connection)
            if self.is_versioned:
                precondition.check(entity)
            else:
                precondition.check_unversioned()
        return entity

    @cached_property
    def is_versioned(self) -> bool:
        """Return whether its rows have a version."""
        model: Any = self.repository.model
        return version_attribute(model) is not None

    def is_changed(self, method: str | None, parameters: Sequence[str]) -> bool:
        """Return whether the object is what a request changes: not a parent of that."""
        return self.schema is None and method in {"PUT", "PATCH", "DELETE"} and [*parameters][-1:] == [self.name]

    def is_changed_by(self, method: str, path: str) -> bool:
        """Return whether the object is what a route changes, with a version to tell."""
        return self.is_versioned and self.is_changed(method, re.findall(r"{(\w+)", path))


def _dependency(finder: _Finder) -> Callable[..., Any]:
    is_async = issubclass(finder.repository.unit, AsyncUnitOfWork)
    call: Any = _kind_of(finder)[is_async](finder)
    unit = unit_of_work if finder.repository.lock is None else transaction
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("unit", kind, annotation=Any, default=unit(finder.repository.unit)),
        inspect.Parameter(finder.name, kind, annotation=_python_type(finder.key), default=Path()),
    ]
    if _kind_of(finder) is not _PLAIN:
        parameters.append(inspect.Parameter("connection", kind, annotation=HTTPConnection))
    call.__signature__ = inspect.Signature(parameters)
    call.__qualname__ = f"found({finder.repository!r})"
    call.problems = frozenset({404})
    call.fastkit_path = finder.name
    call.fastkit_finder = finder
    if finder.schema is not None:
        call.fastkit_reads = (finder.schema, finder.repository.model)
    result: Callable[..., Any] = call
    return result


def _plain(finder: _Finder) -> Callable[..., Any]:
    def find(unit: Any, **values: Any) -> Any:
        return finder.ask(unit, values[finder.name])

    return find


def _plain_async(finder: _Finder) -> Callable[..., Any]:
    async def find(unit: Any, **values: Any) -> Any:
        return await finder.ask(unit, values[finder.name])

    return find


def _object(finder: _Finder) -> Callable[..., Any]:
    def find(unit: Any, connection: HTTPConnection, **values: Any) -> Any:
        return finder.checked(connection, finder.ask(unit, values[finder.name]))

    return find


def _object_async(finder: _Finder) -> Callable[..., Any]:
    async def find(unit: Any, connection: HTTPConnection, **values: Any) -> Any:
        return finder.checked(connection, await finder.ask(unit, values[finder.name]))

    return find


def _marked(finder: _Finder) -> Callable[..., Any]:
    def find(unit: Any, connection: HTTPConnection, **values: Any) -> Any:
        if finder.tells_state_of(connection.scope.get("method"), connection.scope.get("route")):
            return finder.told_state(connection, finder.marked(unit, values[finder.name]))
        return finder.ask(unit, values[finder.name])

    return find


def _marked_async(finder: _Finder) -> Callable[..., Any]:
    async def find(unit: Any, connection: HTTPConnection, **values: Any) -> Any:
        if finder.tells_state_of(connection.scope.get("method"), connection.scope.get("route")):
            return finder.told_state(connection, await finder.marked(unit, values[finder.name]))
        return await finder.ask(unit, values[finder.name])

    return find


# Of both colours: a response model, one whose state can be told, an object.
_PLAIN, _MARKED, _OBJECT = (_plain, _plain_async), (_marked, _marked_async), (_object, _object_async)


def _kind_of(finder: _Finder) -> tuple[Callable[..., Any], Callable[..., Any]]:
    if finder.schema is None:
        return _OBJECT
    return _MARKED if finder.marks else _PLAIN


def _key(repository: RepositoryAttribute, name: str) -> ColumnElement[Any]:
    attribute = getattr(repository.model, name, None)
    if isinstance(attribute, QueryableAttribute):
        return cast("ColumnElement[Any]", attribute)
    key = Selection(repository.model).primary_key
    if len(key) != 1:
        raise DeclarationError(
            f"found({repository!r}): the primary key of {repository.model.__name__} has {len(key)} columns. "
            "Write a dependency that takes them from the path and calls get_one((a, b))."
        )
    return key[0]


def _python_type(key: Any) -> Any:
    """Return what the text in the path is made: the type of the column, or what its annotation says."""
    try:
        known = key.type.python_type
    except NotImplementedError:
        return str
    return _annotated(key) or str if known is object else known  # a TypeDecorator does not tell


def _annotated(key: Any) -> Any:
    """Return the type that the class names for an attribute, or None if a text cannot become that."""
    owner = next((each for each in key.class_.__mro__ if key.key in get_annotations(each)), None)
    if owner is None:
        return None
    annotation: Any = get_annotations(owner)[key.key]
    try:
        if isinstance(annotation, str):
            annotation = eval(annotation, vars(sys.modules[owner.__module__]))  # noqa: S307 - the source of the class
        told = annotation.__args__[0] if get_origin(annotation) is Mapped else annotation
        TypeAdapter(told)
    except (NameError, AttributeError, PydanticUserError):
        return None
    return told


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
