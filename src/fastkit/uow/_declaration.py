"""Find the repositories of a unit of work from the annotations of its class."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from copy import copy
from types import FrameType
from typing import Any, ClassVar

from sqlalchemy import MetaData, Table
from sqlalchemy.orm import class_mapper
from typing_extensions import get_annotations

from fastkit._generics import type_argument
from fastkit.errors import DeclarationError
from fastkit.repository import AsyncRepository, Repository
from fastkit.repository.declaration import mapped


class RepositoryAttribute:
    """
    One repository of a unit of work; reading it from a unit makes the repository, reading it from the class gives this.

    Attributes:
        unit: The class that declares it.
        name: The name of the attribute.
        repository: The repository class.
        model: The mapped class.
        lock: How `reads` locks rows, or None if it does not.
    """

    def __init__(self, unit: type[Any], name: str, repository: type[Any], model: type[Any]) -> None:
        self.unit = unit
        self.name = name
        self.repository = repository
        self.model = model
        self.lock: Mapping[str, bool] | None = None

    def __get__(self, unit: Any, owner: type[Any]) -> Any:
        if owner is not self.unit and not issubclass(owner, self.unit):  # named by another class: `repository = ...`
            return self
        if unit is None:
            return self if owner is self.unit else RepositoryAttribute(owner, self.name, self.repository, self.model)
        made = unit.__dict__[self.name] = self.repository(unit.session, self.model)
        return made

    def for_update(self, **how: bool) -> RepositoryAttribute:
        """Return the repository as it locks the rows that it reads, as `for_update` of a repository does."""
        locking = copy(self)
        locking.lock = how
        return locking

    def reads(self, unit: Any) -> Any:
        """Return what reads the rows in a unit of work: the repository, or its view that locks."""
        repository = getattr(unit, self.name)
        return repository if self.lock is None else repository.for_update(**self.lock)

    def __repr__(self) -> str:
        return f"{self.unit.__name__}.{self.name}" + ("" if self.lock is None else ".for_update()")


def declare_repositories(unit: type[Any], root: type[Any], frame: FrameType | None) -> None:
    """
    Turn each annotation of *unit* into a repository.

    Raises:
        DeclarationError: An annotation is not a repository of the unit's colour for a mapped class.
    """
    for name, annotation in get_annotations(unit).items():
        place = f"{unit.__qualname__}.{name}"
        if name.startswith("_") or _is_class_var(resolved := _resolved(annotation, place, unit, frame)):
            continue
        if any(name in vars(base) for base in unit.__mro__ if base.__module__.startswith("fastkit.")):
            raise DeclarationError(f"{place} would replace what every unit of work has under this name: rename it.")
        repository = typing.get_origin(resolved) or resolved
        if not (isinstance(repository, type) and issubclass(repository, root)):
            raise DeclarationError(_wrong_annotation(place, repository, root))
        model = mapped(type_argument(resolved, root), place)
        setattr(unit, name, RepositoryAttribute(unit, name, repository, model))


def models_of(unit: type[Any]) -> list[type[Any]]:
    """Return the models of a unit's repositories."""
    declared = (attribute for cls in unit.__mro__ for attribute in vars(cls).values())
    return [attribute.model for attribute in declared if isinstance(attribute, RepositoryAttribute)]


def metadata_of(unit: type[Any]) -> tuple[MetaData, ...]:
    """Return the metadata of all models of a unit, each once."""
    found: dict[int, MetaData] = {}
    for model in models_of(unit):
        for table in class_mapper(model, configure=False).tables:
            if isinstance(table, Table):
                found[id(table.metadata)] = table.metadata
    return tuple(found.values())


def _is_class_var(annotation: Any) -> bool:
    return annotation is ClassVar or typing.get_origin(annotation) is ClassVar


def _resolved(annotation: Any, place: str, unit: type[Any], frame: FrameType | None) -> Any:
    names = {**vars(sys.modules[unit.__module__]), **(frame.f_locals if frame else {}), **vars(unit)}
    while isinstance(annotation, str):
        try:
            annotation = eval(annotation, names)  # noqa: S307 - the source of the class, as typing.get_type_hints does
        except Exception as error:
            fault = f"its annotation {annotation!r} cannot be evaluated ({error})"
            if isinstance(error, NameError):
                fault = f"the name {error.name!r} in its annotation cannot be found"
            raise DeclarationError(
                f"{place}: {fault}. Import it in the class's module, not under TYPE_CHECKING and not below the class: "
                "repositories are made from annotations."
            ) from error
    return annotation


def _wrong_annotation(place: str, found: Any, root: type[Any]) -> str:
    other = Repository if root is AsyncRepository else AsyncRepository
    if isinstance(found, type) and issubclass(found, other):
        return f"{place} is a {other.__name__}, and its unit of work needs a {root.__name__}: the colours do not mix."
    return (
        f"{place} is not a repository. Annotate it {root.__name__}[Model] or with a subclass; "
        "mark what is not a repository with ClassVar, or begin its name with an underscore."
    )
