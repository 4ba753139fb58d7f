"""A row named by the path, or a 404 problem."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast, get_origin

from fastapi import Depends, Path
from pydantic import BaseModel, PydanticUserError, TypeAdapter
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Mapped, QueryableAttribute
from sqlalchemy.sql.base import ExecutableOption
from typing_extensions import get_annotations

from fastkit.deps.units import unit_of_work
from fastkit.errors import DeclarationError
from fastkit.repository import Selection
from fastkit.uow import AsyncUnitOfWork, RepositoryAttribute


def found(
    repository: Any,
    schema: type[BaseModel] | None = None,
    *,
    path: str | None = None,
    options: Sequence[ExecutableOption] = (),
) -> Any:
    """
    Return the dependency that gives what the path names, an object or a response model, or answers 404.

    >>> @app.get("/books/{book_id}")
    ... async def book(book: Annotated[BookOut, found(Shop.books, BookOut)]) -> BookOut:
    ...     return book

    Args:
        repository: The repository, named on the class of its unit of work: `Shop.books`.
        schema: The response model to read the row into; without it, the object is given.
        path: The path parameter; without it, the model's name with "_id", as in `book_id`. If the model has an
            attribute of that name, such as `slug`, the row is found by it, otherwise by the primary key.
        options: Loader options, for relationships that the response shows.

    Raises:
        DeclarationError: The first argument is no repository of a unit of work, its key has several columns, or the
            second is no response model. That a field of it comes from nothing is told when the app starts.
    """
    if not isinstance(repository, RepositoryAttribute):
        raise DeclarationError("found() takes a repository named on its unit of work's class: found(Shop.books).")
    given: object = schema
    if given is not None and not (isinstance(given, type) and issubclass(given, BaseModel)):
        raise DeclarationError(f"found({repository!r}, ...): the second argument is a response model, not {given!r}.")
    name = path or f"{_snake_case(repository.model.__name__)}_id"
    return Depends(_finder(repository, name, schema, tuple(options)))


def _finder(
    repository: RepositoryAttribute, name: str, schema: type[BaseModel] | None, options: tuple[ExecutableOption, ...]
) -> Callable[..., Any]:
    key = _key(repository, name)
    is_primary = key is Selection(repository.model).primary_key[0]

    def ask(unit: Any, value: Any) -> Any:
        """Return the answer, or what is to be awaited for it."""
        view = getattr(unit, repository.name).with_options(*options)
        if schema is None:
            return view.one(key == value)
        reader = view.into(schema)
        return reader.get_one(value) if is_primary else reader.one(key == value)

    async def find_async(unit: Any, **values: Any) -> Any:
        return await ask(unit, values[name])

    def find(unit: Any, **values: Any) -> Any:
        return ask(unit, values[name])

    finder: Any = find_async if issubclass(repository.unit, AsyncUnitOfWork) else find
    kind = inspect.Parameter.KEYWORD_ONLY
    finder.__signature__ = inspect.Signature(
        [
            inspect.Parameter("unit", kind, annotation=Any, default=unit_of_work(repository.unit)),
            inspect.Parameter(name, kind, annotation=_python_type(key), default=Path()),
        ]
    )
    finder.__qualname__ = f"found({repository!r})"
    finder.problems = frozenset({404})
    finder.fastkit_path = name
    if schema is not None:
        finder.fastkit_reads = (schema, repository.model)
    result: Callable[..., Any] = finder
    return result


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
