"""What a client may ask of a list: filters, order, page; an allow-list that is checked against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import ConfigDict, Field, PrivateAttr, field_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement

from fastkit.errors import DeclarationError
from fastkit.pages import PageQuery, WindowQuery
from fastkit.repository._list_filters import canonical, check_names, check_paths, criterion_of, filters_of
from fastkit.repository._places import nearest
from fastkit.repository.filters import either

M = TypeVar("M")

_REMEMBERED = 128


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
        self._known: dict[tuple[type[Any], str | None], list[Any]] = {}
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
        """Return what to sort by; the same objects for the same question."""
        known = self._known.get((model, asked))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[model, asked] = [self._key(model, key) for key in self.keys_of(asked or self.default)]
        return known

    def _key(self, model: type[Any], key: str) -> Any:
        name = key.removeprefix("-")
        expression = self.expressions[name]
        found = getattr(model, name) if expression is None else expression
        return found.desc() if key.startswith("-") else found


def check_page(query: object, verb: str) -> None:
    """Refuse what names no page."""
    if not isinstance(query, PageQuery):
        more = "; windows are read by window()" if isinstance(query, WindowQuery) else ""
        raise DeclarationError(
            f"{verb} takes PageQuery(page=2, size=20) or a list query, not {type(query).__name__}{more}."
        )


class ListQuery(PageQuery, WindowQuery, Generic[M]):
    """
    What a client may ask of a list of one model; a value, which works without HTTP too.

    >>> class BookQuery(ListQuery[Book]):
    ...     title: Contains[str] = None
    ...     author: Annotated[Equals[str], From("author.name")] = None
    ...     price: Range[Decimal] = None
    ...     sort = Sort("title", "price", default="title")
    ...     max_size = 50

    Filters are joined by AND; those whose names stand in one group of `any_of` by OR. A filter through a relationship
    asks whether there is such a row. What is not listed cannot be filtered or sorted by. The same class serves pages,
    `page` and `size`, and windows, `cursor` and `size`.

    Attributes:
        order: The keys to sort by, as the client wrote them: `?sort=-price,title`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ignored_types=(Sort,))

    _model: ClassVar[type[Any] | None] = None
    sort: ClassVar[Sort] = Sort()
    max_size: ClassVar[int] = 100
    any_of: ClassVar[Sequence[Sequence[str]]] = ()

    _asks: str | None = PrivateAttr(default=None)  # "page" or "cursor", if a dependency has read one of them only

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
        if cls.max_size < 1:
            raise DeclarationError(f"{cls.__name__}.max_size is {cls.max_size}: a page has at least one row.")
        if cls.model_fields["size"].default > cls.max_size:
            cls.model_fields["size"].default = cls.max_size
            cls.model_rebuild(force=True)

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
                told = {"keys": cls.sort.told, "hint": nearest(name, cls.sort.expressions)}
                raise PydanticCustomError("sort_key", "The list can be sorted by {keys}{hint}", told)
        return order

    def asking_for(self, what: str) -> Self:
        """Return the query, noting that a client could ask for a "page", or for a "cursor", and not for the other."""
        self._asks = what
        return self

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
        """
        Return which page is asked for, and nothing else.

        Raises:
            DeclarationError: It asks for a window.
        """
        if self.cursor is not None or self._asks == "cursor":
            name = type(self).__name__
            raise DeclarationError(
                f"{name}(cursor=...) asks for a window: read it by window(), or take listed({name})."
            )
        return PageQuery.model_construct(page=self.page, size=self.size)

    def filters_of_window(self) -> str:
        """
        Return what is filtered by, as text.

        Raises:
            DeclarationError: It asks for a page.
        """
        if self.page != 1 or self._asks == "page":
            name = type(self).__name__
            raise DeclarationError(
                f"{name}(page={self.page}) asks for a page, and a window goes on from a cursor: take windowed({name})."
            )
        asked = {name: getattr(self, name) for name, _ in filters_of(type(self))}
        told = {name: canonical(value) for name, value in asked.items() if value is not None}
        return f"{type(self).__qualname__} {sorted(told.items())}"

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
        check_paths(type(self))
        return self.sort.ordering(self.mapped_class(), self.order)
