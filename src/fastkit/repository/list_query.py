"""What a client may ask of a list: filters, order, page; an allow-list that is checked against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement

from fastkit.errors import DeclarationError
from fastkit.pages import PageQuery
from fastkit.repository._list_filters import check_names, check_paths, criterion_of, filters_of
from fastkit.repository.filters import either

M = TypeVar("M")


class Sort:
    """
    By what a client may sort: names of the model's attributes, and what else is sorted by, under a name of its own.

    >>> sort = Sort("title", "price", popular=Book.sold, default="title")

    A client asks for `?sort=-price,title`; "-" is descending.

    Args:
        names: Attributes of the model.
        default: The order if a client asks for none, written as a client would; none is that of the primary key.
        expressions: SQL expressions of the model's columns, by the name that a client gives.
    """

    def __init__(self, *names: str, default: str | None = None, **expressions: Any) -> None:
        self.expressions: Mapping[str, Any] = {**dict.fromkeys(names), **expressions}
        self.default = default
        for name in self.keys_of(default):
            if name.removeprefix("-") not in self.expressions:
                raise DeclarationError(f"Sort(default={default!r}): {name!r} is none of {self.told}.")

    @property
    def told(self) -> str:
        """Return the names, for messages and for the OpenAPI schema."""
        return ", ".join(self.expressions) or "nothing"

    @staticmethod
    def keys_of(asked: str | None) -> list[str]:
        """Return the single keys of what was asked for."""
        return [key.strip() for key in asked.split(",") if key.strip()] if asked else []

    def ordering(self, model: type[Any], asked: str | None) -> list[Any]:
        """Return what to sort by."""
        return [self._key(model, key) for key in self.keys_of(asked or self.default)]

    def _key(self, model: type[Any], key: str) -> Any:
        name = key.removeprefix("-")
        expression = self.expressions[name]
        found = getattr(model, name) if expression is None else expression
        return found.desc() if key.startswith("-") else found


class ListQuery(PageQuery, Generic[M]):
    """
    What a client may ask of a list of one model; a value, which works without HTTP too.

    >>> class BookQuery(ListQuery[Book]):
    ...     title: Contains[str] = None
    ...     author: Annotated[Equals[str], From("author.name")] = None
    ...     price: Range[Decimal] = None
    ...     sort = Sort("title", "price", default="title")
    ...     max_size = 50

    Filters are joined by AND; those whose names stand in one group of `any_of` by OR. A filter through a relationship
    asks whether there is such a row. What is not listed cannot be filtered or sorted by.

    Attributes:
        order: The keys to sort by, as the client wrote them: `?sort=-price,title`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ignored_types=(Sort,))

    _model: ClassVar[type[Any] | None] = None
    sort: ClassVar[Sort] = Sort()
    max_size: ClassVar[int] = 100
    any_of: ClassVar[Sequence[Sequence[str]]] = ()

    size: int = Field(default=20, ge=1, description="Rows on a page.")
    order: str | None = Field(default=None, alias="sort", max_length=200)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        arguments = cls.__pydantic_generic_metadata__["args"]
        if arguments:
            cls._model = arguments[0]
        if cls.__pydantic_generic_metadata__["origin"] is None and cls._model is not None:
            check_names(cls, [*ListQuery.model_fields])

    @field_validator("size")
    @classmethod
    def _size_is_allowed(cls, size: int) -> int:
        if size > cls.max_size:
            raise PydanticCustomError("page_size", "There are at most {most} rows on a page", {"most": cls.max_size})
        return size

    @field_validator("order")
    @classmethod
    def _order_is_listed(cls, order: str | None) -> str | None:
        for key in Sort.keys_of(order):
            name = key.removeprefix("-")
            if name not in cls.sort.expressions:
                near = get_close_matches(name, cls.sort.expressions, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise PydanticCustomError(
                    "sort_key", "The list can be sorted by {keys}{hint}", {"keys": cls.sort.told, "hint": hint}
                )
        return order

    @classmethod
    def mapped_class(cls) -> type[Any]:
        """
        Return the class whose rows are asked for.

        Raises:
            DeclarationError: The query does not say, as in `ListQuery[Book]`.
        """
        if cls._model is None:
            raise DeclarationError(f"{cls.__name__} does not say what it lists: class {cls.__name__}(ListQuery[Book]).")
        return cls._model

    @property
    def plain(self) -> PageQuery:
        """Return which page is asked for, and nothing else."""
        return PageQuery.model_construct(page=self.page, size=self.size)

    def criteria(self) -> list[ColumnElement[bool]]:
        """Return what the filters ask for, as SQLAlchemy expressions."""
        query = type(self)
        check_paths(query)
        asked = ((name, kind, getattr(self, name)) for name, kind in filters_of(query))
        given = {name: criterion_of(query, name, kind, value) for name, kind, value in asked if value is not None}
        groups = [[given.pop(name) for name in group if name in given] for group in self.any_of]
        return [*given.values(), *(either(group) for group in groups if group)]

    def ordering(self) -> list[Any]:
        """Return what to sort by: what the client asked for, or the default."""
        return self.sort.ordering(self.mapped_class(), self.order)
