"""What is read, as a value: statements are built here and run on any SQLAlchemy session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, literal, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, Session, class_mapper
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql.base import ExecutableOption

from fastkit.database import GuardedSession, fetched, locking, reading
from fastkit.errors import DeclarationError, MultipleFoundError, NotFoundError, UnflushedChangesError
from fastkit.pages import Page, PageQuery, Slice
from fastkit.repository.list_query import ListQuery

M = TypeVar("M")

_EAGER = {"joined", "selectin", "subquery", "immediate", False}


@dataclass(frozen=True, slots=True)
class Selection(Generic[M]):
    """
    Which objects of a model are read, and how; immutable, so that a view never changes the repository it came from.

    Each method takes a sync session: an async repository runs the same method inside `AsyncSession.run_sync`.

    Attributes:
        model: The mapped class.
        options: Loader options.
        ordering: Sort keys; the primary key is appended where an order has to be total.
        locked: Whether the rows are locked until the block ends.
    """

    model: type[M]
    options: tuple[ExecutableOption, ...] = ()
    ordering: tuple[Any, ...] = ()
    locked: bool = False

    def with_options(self, *options: ExecutableOption) -> Selection[M]:
        """Return the selection with more loader options."""
        return replace(self, options=self.options + options)

    def order_by(self, *keys: Any) -> Selection[M]:
        """Return the selection in another order."""
        return replace(self, ordering=keys)

    def for_update(self) -> Selection[M]:
        """Return the selection with its rows locked."""
        return replace(self, locked=True)

    # -- statements

    def select(self, *where: ColumnElement[bool]) -> Select[M]:
        """Return the statement: criteria, loader options, order and lock."""
        statement = self._narrowed(select(self.model), where)
        if self.options:
            statement = statement.options(*self.options)
        if self.locked:
            # OF names the model's own table: PostgreSQL refuses to lock the nullable side of an outer join.
            statement = statement.with_for_update(of=self.model)
        return statement

    def total_order(self, *where: ColumnElement[bool]) -> Select[M]:
        """Return the statement in an order that leaves no two rows equal."""
        statement = self.select(*where)
        return statement if self.ordering else statement.order_by(*self.primary_key)

    def narrowed(self, statement: Select[Any], *where: ColumnElement[bool]) -> Select[Any]:
        """Return a statement about the model's columns with the criteria and in the order of this selection."""
        return self.with_criteria(self._narrowed(statement, where))

    def with_criteria(self, statement: Select[Any]) -> Select[Any]:
        """Return a statement with those of the loader options that are criteria, for its aliases as well."""
        return statement.options(*map(_for_aliases, self._criteria)) if self._criteria else statement

    @property
    def _criteria(self) -> list[LoaderCriteriaOption]:
        return [option for option in self.options if isinstance(option, LoaderCriteriaOption)]

    def _narrowed(self, statement: Select[Any], where: tuple[ColumnElement[bool], ...]) -> Select[Any]:
        if where:
            statement = statement.where(*_checked(where))
        if self.ordering:
            statement = statement.order_by(*self.ordering, *self.primary_key)
        return statement

    def without_lock(self) -> Selection[M]:
        """Return the selection, if its rows are not to be locked."""
        if self.locked:
            raise DeclarationError(
                "for_update().into(...): rows are locked to be changed, so read their objects, as in "
                "for_update().get_one(...). A response model can be made of them afterwards."
            )
        return self

    @property
    def primary_key(self) -> tuple[ColumnElement[Any], ...]:
        """Return the primary key as attributes of the model, in the order of its columns."""
        return _primary_key(class_mapper(self.model))

    def by_identity(self, ident: Any) -> ColumnElement[bool]:
        """Return the criterion for a primary key: a value, or a tuple or mapping if it is composite."""
        return and_(*(key == value for key, value in zip(self.primary_key, self.parts(ident), strict=True)))

    def parts(self, ident: Any) -> list[Any]:
        """Return the parts of a primary key."""
        if isinstance(ident, dict):
            values = [ident[key.key] for key in self.primary_key if key.key in ident]
        else:
            values = list(ident) if isinstance(ident, tuple | list) else [ident]
        if len(values) != len(self.primary_key):
            names = ", ".join(str(key.key) for key in self.primary_key)
            raise InvalidRequestError(f"The primary key of {self.model.__name__} is ({names}): give as many values.")
        return values

    # -- reads

    def get(self, session: Session, ident: Any) -> M | None:
        """Return the object with this primary key, or None."""
        self._refuse_lock(session)
        if ident is None:
            return None
        if self.options or self.locked:
            return next(iter(self._fetch(session, self.select(self.by_identity(ident)))), None)
        with reading(session, several=_loads_eagerly(class_mapper(self.model))):
            return session.get(self.model, ident)

    def get_one(self, session: Session, ident: Any) -> M:
        """Return the object with this primary key, or raise."""
        found = self.get(session, ident)
        if found is None:
            raise NotFoundError(self.model.__name__, ident)
        return found

    def one(self, session: Session, *where: ColumnElement[bool]) -> M:
        """Return the only object that matches, or raise."""
        found = self._fetch(session, self.select(*where).limit(2))
        if not found:
            raise NotFoundError(self.model.__name__)
        if len(found) > 1:
            raise MultipleFoundError(self.model.__name__)
        return found[0]

    def first(self, session: Session, *where: ColumnElement[bool]) -> M | None:
        """Return the first object in order that matches, or None."""
        return next(iter(self._fetch(session, self.total_order(*where).limit(1))), None)

    def all(self, session: Session, *where: ColumnElement[bool]) -> list[M]:
        """Return every object that matches."""
        return self._fetch(session, self.select(*where))

    def count(self, session: Session, *where: ColumnElement[bool]) -> int:
        """Return how many rows match."""
        return int(fetched(session, self._rows(session, func.count(), where))[0][0])

    def exists(self, session: Session, *where: ColumnElement[bool]) -> bool:
        """Return whether a row matches."""
        return bool(fetched(session, self._rows(session, literal(1), where).limit(1)))

    def asked(self, query: ListQuery[Any]) -> Selection[M]:
        """Return the selection in the order that a list query asks for; it asks for none if the client did not."""
        if not issubclass(self.model, query.mapped_class()):
            asked = query.mapped_class().__name__
            raise DeclarationError(f"{type(query).__name__} is about {asked}, not about {self.model.__name__}.")
        return self if self.ordering and query.order is None else self.order_by(*query.ordering())

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Page[M]:
        """Return one page and the total, both of one moment where the database can give that."""
        if isinstance(query, ListQuery):
            return self.asked(query).page(session, query.plain, *query.criteria(), *where)
        modified = self._modified(session)
        with reading(session, several=True):
            total = self.count(session, *where)
            rows = self.total_order(*where).limit(query.size).offset(query.offset)
            items = self._fetch(session, rows, modified) if query.offset < total else []
        return Page.model_construct(items=items, total=total, page=query.page, size=query.size)

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[M]:
        """Return one page and whether there are more."""
        if isinstance(query, ListQuery):
            return self.asked(query).slice(session, query.plain, *query.criteria(), *where)
        found = self._fetch(session, self.total_order(*where).limit(query.size + 1).offset(query.offset))
        return Slice.of(found, query)

    def _rows(self, session: Session, what: ColumnElement[Any], where: tuple[ColumnElement[bool], ...]) -> Select[Any]:
        """Return a statement about the rows that match; criteria in the options are criteria here too."""
        self._refuse_lock(session)
        statement = select(what).select_from(self.model).where(*_checked(where))
        return statement.options(*self._criteria) if self._criteria else statement

    def _refuse_lock(self, session: Session) -> None:
        if self.locked and isinstance(session, GuardedSession):
            session.refuse_lock()

    def _fetch(self, session: Session, statement: Select[M], modified: Sequence[object] = ()) -> list[M]:
        if self.locked:
            return self._lock(session, statement, modified or self._modified(session))
        mapper = class_mapper(self.model)
        eager = bool(self.options) or _loads_eagerly(mapper)
        with reading(session, several=eager):
            result = session.scalars(statement)
            return list((result.unique() if eager else result).all())

    def _lock(self, session: Session, statement: Select[M], modified: Sequence[object]) -> list[M]:
        with locking(session, self.model):
            found = list(session.scalars(statement).unique().all())
        if any(entity is other for entity in found for other in modified):
            raise UnflushedChangesError(
                f"This {self.model.__name__} was changed before it was locked, so the change may rest on old values. "
                "Read it with for_update() first, then change it."
            )
        return found

    def _modified(self, session: Session) -> Sequence[object]:
        """Return the objects of this model whose columns were changed and not flushed, if they are to be locked."""
        candidates = [entity for entity in session.dirty if isinstance(entity, self.model)] if self.locked else []
        return [entity for entity in candidates if session.is_modified(entity, include_collections=False)]


@cache
def selection_of(model: Any) -> Selection[Any]:
    """Return the selection of every object of a model; always the same one, because it cannot change."""
    return Selection(model)


@cache
def _primary_key(mapper: Mapper[Any]) -> tuple[Any, ...]:
    return tuple(mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key)


@cache
def _loads_eagerly(mapper: Mapper[Any]) -> bool:
    return any(relationship.lazy in _EAGER for relationship in mapper.relationships)


def _for_aliases(option: LoaderCriteriaOption) -> LoaderCriteriaOption:
    """Return a criterion that holds for aliases too: a reader joins related rows by them, as joinedload does."""
    found = LoaderCriteriaOption.__new__(LoaderCriteriaOption)
    for name in LoaderCriteriaOption.__slots__:
        setattr(found, name, getattr(option, name))
    found.include_aliases = True
    return found


def _checked(where: tuple[ColumnElement[bool], ...]) -> tuple[ColumnElement[bool], ...]:
    """Refuse `book.id == 1` on an object, which is a plain bool and would match every row or none."""
    for criterion in where:
        if not hasattr(criterion, "__clause_element__") and not isinstance(criterion, ColumnElement):
            raise TypeError(
                f"A criterion is a SQLAlchemy expression on the class, such as Book.title == 'Emma', "
                f"not {type(criterion).__name__}. Is it a comparison on an object instead of its class?"
            )
    return where
