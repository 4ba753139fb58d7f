"""What a class of CRUD services says of itself, checked when it is defined."""

from __future__ import annotations

import typing
from collections.abc import Collection
from datetime import datetime
from difflib import get_close_matches
from inspect import iscoroutinefunction
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel
from sqlalchemy import inspect

from fastkit.errors import DeclarationError
from fastkit.repository import check_reader
from fastkit.repository.versions import modified_attribute, shows_own_columns, version_attribute, version_told_of
from fastkit.schemas._absent import MISSING
from fastkit.schemas._mapped import is_json
from fastkit.schemas._nested import is_partial, jsonable, writable
from fastkit.schemas.changes import check_writes
from fastkit.service.preconditions import Precondition
from fastkit.uow import RepositoryAttribute, UnitOfWork

B = TypeVar("B", bound=BaseModel)

_STEPS = ("authorise", "validate", "build", "save", "present")


class CrudDeclaration:
    """
    What a CRUD service is about.

    Attributes:
        repository: The repository, named on its unit of work.
        shows: The response model.
        model: The mapped class; from the brackets, as the other two.
        creates: What a row is created and replaced by.
        changes: What it is changed by.
    """

    repository: ClassVar[Any] = None
    shows: ClassVar[Any] = None
    model: ClassVar[Any] = None
    creates: ClassVar[Any] = None
    changes: ClassVar[Any] = None
    uow: Any
    _awaits: ClassVar[bool]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in getattr(cls, "__orig_bases__", ()):
            given = typing.get_args(base)
            if issubclass(typing.get_origin(base) or object, CrudDeclaration) and not any(
                isinstance(each, TypeVar) for each in given
            ):
                cls.model, cls.creates, cls.changes = given
        cls._check_steps()
        if cls.repository is not None and cls.shows is not None:
            cls._check()

    @classmethod
    def _check_steps(cls) -> None:
        """Refuse what would be taken for a step and never called, or called in the other colour."""
        for name, member in vars(cls).items():
            meant = get_close_matches(name, _STEPS, n=1, cutoff=0.85)
            if callable(member) and meant and name != meant[0] and not hasattr(CrudDeclaration, name):
                raise DeclarationError(f"{cls.__name__}.{name} is never called; did you mean {meant[0]!r}?")
            if name in _STEPS and iscoroutinefunction(member) is not cls._awaits:
                right = "async def" if cls._awaits else "def"
                raise DeclarationError(f"{cls.__name__}.{name} is a step of the other colour: write `{right} {name}`.")

    @classmethod
    def _check(cls) -> None:
        name, repository = cls.__name__, cls.repository
        if not isinstance(repository, RepositoryAttribute):
            raise DeclarationError(f"{name}.repository is named on its unit of work, as in `repository = Shop.books`.")
        if cls.model is None:
            raise DeclarationError(f"{name} does not say what it is about, as in CrudService[Book, BookIn, BookPatch].")
        if not issubclass(repository.model, cls.model):
            raise DeclarationError(f"{name} is about {cls.model.__name__}, and {repository!r} is not.")
        cls.model = repository.model  # it may be a subclass of the one in the brackets
        if issubclass(repository.unit, UnitOfWork) is cls._awaits:
            right = "CrudService" if issubclass(repository.unit, UnitOfWork) else "AsyncCrudService"
            raise DeclarationError(f"{name}: {repository.unit.__name__} is of the other colour: inherit from {right}.")
        for what in ("shows", "creates", "changes"):
            if not (isinstance(getattr(cls, what), type) and issubclass(getattr(cls, what), BaseModel)):
                raise DeclarationError(f"{name}: what it {what} is a Pydantic model, not {getattr(cls, what)!r}.")

    @classmethod
    def check_declaration(cls, actions: Collection[str]) -> None:
        """
        Check what can only be looked at when all models are there.

        Args:
            actions: What the service is asked for.

        Raises:
            DeclarationError: The class says too little, a field of its response model comes from nothing, or one that
                is written goes nowhere.
        """
        for name, example in (("repository", "Shop.books"), ("shows", "BookOut")):
            if getattr(cls, name) is None:
                raise DeclarationError(f"{cls.__name__} has no `{name}`: say which one, as in `{name} = {example}`.")
        check_reader(cls.shows, cls.model)
        if "change" in actions:
            check_writes(cls.model, cls.changes)
            needed = [name for name, info in cls.changes.model_fields.items() if info.is_required()]
            if needed and not is_partial(cls.changes):
                raise DeclarationError(
                    f"{cls.__name__}: a PATCH would need {', '.join(needed)} of {cls.changes.__name__}. Let fields be "
                    f"absent: class {cls.model.__name__}Patch({cls.creates.__name__}, partial=True)."
                )
        if "replace" in actions or ("create" in actions and not cls._builds()):
            check_writes(cls.model, cls.creates)

    @classmethod
    def is_versioned(cls) -> bool:
        """Return whether its rows have a version."""
        return version_attribute(cls.model) is not None

    @classmethod
    def _builds(cls) -> bool:
        """Return whether a subclass builds objects in its own way."""
        build = getattr(cls, "build")  # noqa: B009 - of the subclasses of this one
        return not build.__module__.startswith("fastkit.")

    @classmethod
    def built(cls, entity: Any) -> Any:
        """Return what `build` has returned, if it is what it should be."""
        if not isinstance(entity, cls.model):
            raise TypeError(f"{cls.__name__}.build() returned no {cls.model.__name__}, but {type(entity).__name__}.")
        return entity

    @property
    def rows(self) -> Any:
        """Return the repository in the service's unit of work."""
        return getattr(self.uow, self.repository.name)

    @property
    def to_write(self) -> Any:
        """Return what reads a row that is about to be written: locked, unless its version tells of others' changes."""
        return self.rows if self.is_versioned() else self.rows.for_update()

    @classmethod
    def is_dated(cls) -> bool:
        """Return whether it is known of its rows when what is shown of them was changed."""
        return modified_attribute(cls.model) is not None and shows_own_columns(cls.shows, cls.model)

    @classmethod
    def told_date(cls, modified: datetime | None) -> datetime | None:
        """Return when a row was changed, if that tells of all that is shown: of other rows nobody knows."""
        return modified if cls.is_dated() else None

    @classmethod
    def version_of(cls, entity: Any) -> str | None:
        """Return the version of an object as a text, or None if its class has none."""
        return version_told_of(entity) if cls.is_versioned() else None

    def _check_seen(self, if_match: Precondition, entity: Any) -> None:
        """Check what the client has seen, if it said so."""
        if self.is_versioned():
            if_match.check(entity)
        else:
            if_match.check_unversioned()

    @staticmethod
    def ident_of(entity: Any) -> Any:
        """Return the primary key of an object that was flushed: a value, or a tuple if it is composite."""
        key = inspect(entity).mapper.primary_key_from_instance(entity)
        return key[0] if len(key) == 1 else tuple(key)


def arguments_of(model: type[Any], data: BaseModel) -> dict[str, Any]:
    """Return what a new object is made of: the fields that may be written, by their names in Python."""
    return {name: jsonable(value) if is_json(model, name) else value for name, value in _values_of(data).items()}


def as_replacement(data: B) -> B:
    """Return the same data as if every field had been given: what is absent is replaced by its default."""
    return data.model_copy(update=_values_of(data))


def _values_of(data: BaseModel) -> dict[str, Any]:
    """Return what was sent or has a default, and may be written."""
    values = {name: getattr(data, name, MISSING) for name in writable(type(data))}
    return {name: value for name, value in values.items() if value is not MISSING}
