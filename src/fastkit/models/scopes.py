"""Scopes: which rows of a model a unit of work sees and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Table
from sqlalchemy.orm import Mapper

from fastkit.errors import DeclarationError

V = TypeVar("V")

MISSING: Final = object()
"""Stands for the value of a scope that nobody has set."""


class Scope(Generic[V]):
    """
    A rule which rows there are for a unit of work, such as those of one tenant; made once, beside the models.

    A unit names its scopes, and is told the value of each before it reads:

    >>> tenant = Scope[int]("tenant", "tenant_id", exempt=[Country])
    >>> class Shop(AsyncUnitOfWork, scopes=[tenant]):
    ...     books: AsyncRepository[Book]
    >>> async with Shop(database).scoped(tenant, 7) as shop:
    ...     books = await shop.books.all()  # WHERE tenant_id = 7

    Every read, bulk write and relationship load has the criterion, and every new row gets the value. Without a value
    there is an error instead of rows.

    Args:
        name: What it is called in messages and logs.
        column: The attribute that equals the value; new rows get it. Only new rows, if there is *where*.
        where: Returns the criterion of a model for a value, instead of equality: `where(Note, user_id)`.
        models: Which classes it is about, mixins among them. By default all that have *column*, and any other class
            of the unit's metadata has to be in *exempt*, so that none is forgotten.
        exempt: Classes without *column* that are for everybody, such as countries, and such tables between two classes.
        value: The value, where it is the same for all units; such a scope need not be set.

    Raises:
        DeclarationError: It would be about nothing.
    """

    def __init__(
        self,
        name: str,
        column: str | None = None,
        *,
        where: Callable[[Any, V], ColumnElement[bool]] | None = None,
        models: Sequence[type[Any]] = (),
        exempt: Sequence[type[Any] | Table] = (),
        value: V | Any = MISSING,
    ) -> None:
        if column is None and (where is None or not models):
            raise DeclarationError(
                f"Scope({name!r}): name the column that equals the value, as in Scope({name!r}, 'tenant_id'), or give "
                "where= and the models= that it is about."
            )
        if models and exempt:
            raise DeclarationError(f"Scope({name!r}): with models= it is about no other class, so leave exempt= out.")
        if column is not None and not isinstance(column, str):
            raise DeclarationError(f"Scope({name!r}): name the column by a text, as in Scope({name!r}, 'tenant_id').")
        for what, given in (("models", models), ("exempt", exempt)):
            kinds: tuple[type[Any], ...] = (type, Table) if what == "exempt" else (type,)
            if isinstance(given, str | type) or not all(isinstance(each, kinds) for each in given):
                raise DeclarationError(f"Scope({name!r}): {what}= is a list of classes, as in {what}=[Country].")
        self.name = name
        self.column = column
        self.value = value
        self._where = where
        self._models = tuple(models)
        self._exempt = tuple(each for each in exempt if isinstance(each, type))
        self._exempt_tables = tuple(each for each in exempt if isinstance(each, Table))

    def __repr__(self) -> str:
        return f"Scope({self.name!r})"

    @property
    def is_equality(self) -> bool:
        """Return whether its criterion is that a column equals the value."""
        return self._where is None

    def concerns(self, mapper: Mapper[Any]) -> bool:
        """
        Return whether it is about a mapped class.

        Raises:
            DeclarationError: The class should have the column, or be exempt.
        """
        if self._models and not issubclass(mapper.class_, self._models):
            return False
        if self.column is None or self.column in mapper.column_attrs:
            return not issubclass(mapper.class_, self._exempt)
        if self._models or not issubclass(mapper.class_, self._exempt):
            raise DeclarationError(
                f"{mapper.class_.__name__} has no column {self.column!r}, so the scope {self.name!r} cannot hold for "
                f"it: add the column, or say that its rows are for everybody, by exempt=[{mapper.class_.__name__}]."
            )
        return False

    def refuse_between(self, table: Any, relation: object) -> None:
        """
        Refuse a table without a class that relates rows of the scope to any others.

        Raises:
            DeclarationError: It has not the column, and is not exempt.
        """
        if self._models or self.column is None or table in self._exempt_tables or self.column in table.c:
            return
        raise DeclarationError(
            f"{relation} goes through the table {table.name}, which has no column {self.column!r}, so rows of it may "
            f"relate what the scope {self.name!r} keeps apart: give it the column and composite foreign keys with it, "
            f"or say exempt=[{table.name}]."
        )

    def criterion(self, model: Any, value: Any) -> ColumnElement[bool]:
        """Return which rows of a model there are for a value."""
        if self._where is None:
            equal: ColumnElement[bool] = getattr(model, str(self.column)) == value
            return equal
        found: object = self._where(model, value)
        if not isinstance(found, ColumnElement):
            raise DeclarationError(
                f"where= of the scope {self.name!r} gives {type(found).__name__} and not a SQL expression: "
                "true() and false() of SQLAlchemy are all rows and none."
            )
        return found

    def stamp(self, value: Any) -> Mapping[str, Any]:
        """Return what each new row gets, by attribute."""
        return {} if self.column is None else {self.column: value}

    def deletion(self) -> Mapping[str, Any]:
        """Return what is written into a row instead of deleting it, by attribute; nothing, if it is deleted."""
        return {}
