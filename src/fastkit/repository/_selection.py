"""What is read, as a value: statements are built here and run on any SQLAlchemy session."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, Select, and_, func, literal, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, Session, class_mapper
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql.base import ExecutableOption

from fastkit.database import GuardedSession, dialect_of, fetched, of_keys, reading
from fastkit.errors import DeclarationError, MultipleFoundError, NotFoundError
from fastkit.pages import Count, CountUpTo, Page, PageQuery, Slice, Window, WindowQuery
from fastkit.repository._estimate import estimated
from fastkit.repository._locks import RowLock
from fastkit.repository._windows import Place, Step
from fastkit.repository.list_query import ListQuery, check_page

M = TypeVar("M")

log = logging.getLogger("fastkit.repository")

KEYS_AT_ONCE = 5000  # below the 32,766 parameters of SQLite and the 32,767 of asyncpg, with room for criteria
DEVELOPMENT = sys.flags.dev_mode  # python -X dev, or PYTHONDEVMODE=1
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
        lock: How the rows are locked until the block ends, or None.
    """

    model: type[M]
    options: tuple[ExecutableOption, ...] = ()
    ordering: tuple[Any, ...] = ()
    lock: RowLock | None = None

    def with_options(self, *options: ExecutableOption) -> Selection[M]:
        """Return the selection with more loader options."""
        return replace(self, options=self.options + options)

    def order_by(self, *keys: Any) -> Selection[M]:
        """Return the selection in another order."""
        return replace(self, ordering=keys)

    def for_update(self, lock: RowLock) -> Selection[M]:
        """Return the selection with its rows locked."""
        return replace(self, lock=lock)

    # -- statements

    def select(self, *where: ColumnElement[bool]) -> Select[M]:
        """Return the statement: criteria, loader options, order and lock."""
        statement = self._narrowed(select(self.model), where)
        if self.options:
            statement = statement.options(*self.options)
        return statement if self.lock is None else self.lock.on(statement, self.model)

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
            statement = statement.where(*checked(where))
        if self.ordering:
            statement = statement.order_by(*self.ordering, *self.primary_key)
        return statement

    def without_lock(self) -> Selection[M]:
        """Return the selection, if its rows are not to be locked."""
        if self.lock is not None:
            raise DeclarationError(
                "for_update().into(...): rows are locked to be changed, so read their objects, as in "
                "for_update().get_one(...). A response model can be made of them afterwards."
            )
        return self

    @property
    def primary_key(self) -> tuple[ColumnElement[Any], ...]:
        """Return the primary key as attributes of the model, in the order of its columns."""
        model: Any = self.model
        return _primary_key(model)

    def by_identity(self, ident: Any) -> ColumnElement[bool]:
        """Return the criterion for a primary key: a value, or a tuple or mapping if it is composite."""
        return and_(*(key == value for key, value in zip(self.primary_key, self.parts(ident), strict=True)))

    def parts(self, ident: Any) -> list[Any]:
        """Return the parts of a primary key."""
        keys = self.primary_key
        if isinstance(ident, dict):
            values = [ident[key.key] for key in keys if key.key in ident]
        else:
            values = list(ident) if isinstance(ident, tuple | list) else [ident]
        if len(values) != len(keys):
            names = ", ".join(str(key.key) for key in keys)
            raise InvalidRequestError(f"The primary key of {self.model.__name__} is ({names}): give as many values.")
        return values

    # -- reads

    def get(self, session: Session, ident: Any) -> M | None:
        """Return the object with this primary key, or None."""
        self._refuse_lock(session)
        if ident is None:
            return None
        if self.options or self.lock is not None:
            return next(iter(self._fetch(session, self.select(self.by_identity(ident)))), None)
        with reading(session, several=self._loads_eagerly):
            return session.get(self.model, ident)

    def get_one(self, session: Session, ident: Any) -> M:
        """Return the object with this primary key, or raise."""
        found = self.get(session, ident)
        if found is None:
            raise NotFoundError(self.model.__name__, ident)
        return found

    def get_many(self, session: Session, idents: Iterable[Any]) -> list[M]:
        """Return the objects with these primary keys, in this order; those that are missing are left out."""
        self._refuse_lock(session)
        if isinstance(idents, str | bytes):
            raise DeclarationError(f"get_many() takes many keys, in a list or from a generator, not {idents!r}.")
        asked = [tuple(self.parts(ident)) for ident in idents if ident is not None]
        found: dict[tuple[Any, ...], M] = {}
        each = KEYS_AT_ONCE // len(self.primary_key)
        with reading(session, several=True):
            for start in range(0, len(asked), each):
                found |= self._of_keys(session, list(dict.fromkeys(asked[start : start + each])))
            if not found.keys() <= {*asked}:  # the database takes another key for the same, such as "1" for 1
                found |= {key: one for key in asked if key not in found if (one := self.get(session, key)) is not None}
        return [found[key] for key in asked if key in found]

    def _of_keys(self, session: Session, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], M]:
        model: Any = self.model
        statement = self.order_by().select(of_keys(class_mapper(model), keys, dialect_of(session, model)))
        rows = self._fetch(session, statement.order_by(*self.primary_key) if self.lock is not None else statement)
        return {key[1]: entity for entity in rows if (key := instance_state(entity).key) is not None}

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
        if DEVELOPMENT and not self.options:
            model: Any = self.model
            _warn_of_lazy_loads(model)
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

    def total(self, session: Session, how: Count, *where: ColumnElement[bool]) -> int:
        """Return how many rows match: exactly, or counted up to a limit, or as the planner expects."""
        if how == "exact":
            return self.count(session, *where)
        rows = self._rows(session, literal(1), where)
        if isinstance(how, CountUpTo):
            capped = select(func.count()).select_from(rows.limit(how.most + 1).subquery())
            return int(fetched(session, capped.options(*self._criteria))[0][0])
        return estimated(session, rows)

    def rows_to_read(self, session: Session, query: PageQuery, count: Count) -> int:
        """
        Return how many rows a page needs: one more than it shows, if it is to know of more that are not counted.

        Raises:
            DeclarationError: The database cannot count so.
        """
        check_page(query, "page()")
        if count == "exact":
            return query.size
        known: object = count
        if not isinstance(known, CountUpTo) and (known != "estimated" or self._dialect(session) != "postgresql"):
            raise DeclarationError(
                f'page(count={count!r}): a total is "exact", CountUpTo(10_000), or on PostgreSQL "estimated".'
            )
        return query.size + 1

    def _dialect(self, session: Session) -> str:
        return dialect_of(session, self.model).name

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> Page[M]:
        """Return one page and the total, both of one moment where the database can give that."""
        if isinstance(query, ListQuery):
            return self.asked(query).page(session, query.plain, *query.criteria(), *where, count=count)
        with reading(session, several=True):
            size = self.rows_to_read(session, query, count)
            found = self._fetch(session, self.total_order(*where).limit(size).offset(query.offset))
            return Page.of(found, query, lambda: self.total(session, count, *where))

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[M]:
        """Return one page and whether there are more."""
        check_page(query, "slice()")
        if isinstance(query, ListQuery):
            return self.asked(query).slice(session, query.plain, *query.criteria(), *where)
        found = self._fetch(session, self.total_order(*where).limit(query.size + 1).offset(query.offset))
        return Slice.of(found, query)

    def window(self, session: Session, query: WindowQuery, *where: ColumnElement[bool]) -> Window[M]:
        """Return what follows a cursor, or comes before it."""
        if self.lock is not None:
            raise DeclarationError(
                "for_update().window(...): a window is for clients. Lock what first() or all() read."
            )
        selection, criteria = self.narrowed_by(query)
        place = Place.of(session, query, self.model, selection.ordering)
        found = self._fetch_rows(session, place.narrow(self.order_by().select(*criteria, *where)), place.parameters)
        rows = place.cut(found)
        return place.window([row[0] for row in rows], rows, more=len(found) > len(rows))

    def batch(
        self,
        session: Session,
        size: int,
        after: Sequence[Any] | None,
        query: ListQuery[Any] | None,
        *where: ColumnElement[bool],
    ) -> tuple[list[M], Sequence[Any] | None]:
        """Return the next objects of a stream, and where the ones after them begin; None at the end."""
        if self.lock is not None:
            raise DeclarationError(
                "for_update().stream(): rows are locked until the block ends, so lock them by all()."
            )
        selection, criteria = self.narrowed_by(query)
        step = Step.of(session, size, self.model, selection.ordering, after)
        rows = self._fetch_rows(session, step.narrow(self.order_by().select(*criteria, *where)), step.parameters)
        return [row[0] for row in rows], step.next(rows)

    def _fetch_rows(
        self, session: Session, statement: Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Row[Any]]:
        """Return objects with what else the statement selects."""
        eager = bool(self.options) or self._loads_eagerly
        with reading(session, several=eager):
            result = session.execute(statement, parameters)
            return (result.unique() if eager else result).all()

    def narrowed_by(self, query: object) -> tuple[Selection[M], Sequence[ColumnElement[bool]]]:
        """Return the selection in the order that a query asks for, and its criteria."""
        return (self.asked(query), query.criteria()) if isinstance(query, ListQuery) else (self, ())

    @property
    def _loads_eagerly(self) -> bool:
        model: Any = self.model
        return _loads_eagerly(model)

    def _rows(self, session: Session, what: ColumnElement[Any], where: tuple[ColumnElement[bool], ...]) -> Select[Any]:
        """Return a statement about the rows that match; criteria in the options are criteria here too."""
        self._refuse_lock(session)
        statement = select(what).select_from(self.model).where(*checked(where))
        return statement.options(*self._criteria) if self._criteria else statement

    def _refuse_lock(self, session: Session) -> None:
        if self.lock is not None and isinstance(session, GuardedSession):
            session.refuse_lock()

    def _fetch(self, session: Session, statement: Select[M]) -> list[M]:
        if self.lock is not None:
            return self.lock.fetch(session, statement, self.model)
        eager = bool(self.options) or self._loads_eagerly
        with reading(session, several=eager):
            result = session.scalars(statement)
            return list((result.unique() if eager else result).all())


@cache
def selection_of(model: Any) -> Selection[Any]:
    """Return the selection of every object of a model; always the same one, because it cannot change."""
    return Selection(model)


@cache
def _primary_key(model: Any) -> tuple[Any, ...]:
    mapper: Mapper[Any] = class_mapper(model)
    return tuple(mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key)


@cache  # once for each model
def _warn_of_lazy_loads(model: Any) -> None:
    lazy = [relationship.key for relationship in class_mapper(model).relationships if relationship.lazy == "select"]
    if lazy:
        log.warning(
            "%s.all(): each object loads %s by a statement of its own when it is touched, which async code cannot. "
            "Read response models instead, into(...), or name what is needed, with_options(selectinload(%s.%s)).",
            *(model.__name__, ", ".join(lazy), model.__name__, lazy[0]),
        )


@cache
def _loads_eagerly(model: Any) -> bool:
    mapper = class_mapper(model)
    mappers = {mapper, *mapper.with_polymorphic_mappers}
    if any(each.polymorphic_load == "selectin" for each in mapper.self_and_descendants if each is not mapper):
        return True
    return any(relationship.lazy in _EAGER for each in mappers for relationship in each.relationships)


def _for_aliases(option: LoaderCriteriaOption) -> LoaderCriteriaOption:
    """Return a criterion that holds for aliases too: a reader joins related rows by them, as joinedload does."""
    found = LoaderCriteriaOption.__new__(LoaderCriteriaOption)
    for name in LoaderCriteriaOption.__slots__:
        setattr(found, name, getattr(option, name))
    found.include_aliases = True
    return found


def checked(where: tuple[ColumnElement[bool], ...]) -> tuple[ColumnElement[bool], ...]:
    """Refuse `book.id == 1` on an object, which is a plain bool and would match every row or none."""
    for criterion in where:
        if isinstance(criterion, ListQuery):
            raise TypeError(
                "Only page(), slice(), window() and stream(query=...) take a list query; here give *query.criteria()."
            )
        if not hasattr(criterion, "__clause_element__") and not isinstance(criterion, ColumnElement):
            raise TypeError(
                f"A criterion is a SQLAlchemy expression on the class, such as Book.title == 'Emma', "
                f"not {type(criterion).__name__}. Is it a comparison on an object instead of its class?"
            )
    return where
