"""The query parameters of a list, from a `ListQuery`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, TypeVar, get_args, get_origin

from fastapi import Depends, Query, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from fastkit.errors import DeclarationError
from fastkit.repository._places import nearest
from fastkit.repository.filters import LONGEST_TEXT, Between, Filter, RangeFilter, Search
from fastkit.repository.list_query import ListQuery

Q = TypeVar("Q", bound=ListQuery[Any])

_KNOWN = "fastkit_query_parameters"
_LONGEST_NAME = 200  # of what the client has made up, to be told back
_MOST_HINTS = 10  # to look for a name that is like another takes time, and a client can send thousands


def listed(query: type[Q]) -> Any:
    """
    Return the dependency that reads a list query from the parameters of a request, or answers 422.

    >>> @app.get("/books")
    ... async def books(shop: ShopDep, query: Annotated[BookQuery, listed(BookQuery)]) -> Page[BookOut]:
    ...     return await shop.books.into(BookOut).page(query)

    Each filter is a parameter of its own in the OpenAPI schema; a range is two, `price_min` and `price_max`. A
    parameter that nobody of the route asks for is an error that names the nearest one.

    Raises:
        DeclarationError: Not a subclass of `ListQuery`.
    """
    _check(query, "listed")
    return Depends(_reader(query, {*query.model_fields} - {"cursor"}))


def windowed(query: type[Q]) -> Any:
    """
    Same as `listed`, for a window: the parameter `cursor` in place of `page`.

    >>> @app.get("/books")
    ... async def books(shop: ShopDep, query: Annotated[BookQuery, windowed(BookQuery)]) -> Window[BookOut]:
    ...     return await shop.books.into(BookOut).window(query)
    """
    _check(query, "windowed")
    return Depends(_reader(query, {*query.model_fields} - {"page"}))


def _check(query: Any, name: str) -> None:
    if not (isinstance(query, type) and issubclass(query, ListQuery)):
        raise DeclarationError(f"{name}() takes a subclass of ListQuery[Model], not {query!r}.")
    query.mapped_class()


def _reader(query: type[ListQuery[Any]], names: Collection[str]) -> Callable[..., Any]:
    async def read(request: Request, **values: Any) -> ListQuery[Any]:
        _refuse_unknown(request)
        try:
            found = query.model_validate(_gathered(query, values), by_alias=False, by_name=True)
        except ValidationError as error:
            raise RequestValidationError([_placed(each) for each in error.errors(include_url=False)]) from None
        return found.asking_for("cursor" if "cursor" in names else "page")

    described: Any = read
    described.__signature__ = inspect.Signature(
        [
            inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request),
            *(_parameter(query, name, annotation) for name, annotation in _parameters(query, names)),
        ]
    )
    described.fastkit_lists = query
    described.fastkit_windows = "cursor" in names
    described.problems = frozenset({HTTPStatus.BAD_REQUEST} if "cursor" in names else ())  # for the OpenAPI schema
    described.__qualname__ = f"listed({query.__qualname__})"
    return read


def _parameter(query: type[ListQuery[Any]], name: str, annotation: Any) -> inspect.Parameter:
    default = query.model_fields[name].default if name in {"page", "size"} else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameters(query: type[ListQuery[Any]], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the parameters: their name in Python, and their annotation as FastAPI takes it."""
    for name, info in ((name, info) for name, info in query.model_fields.items() if name in names):
        alias = info.alias or name
        if name == "size":
            sized = Query(ge=1, le=query.max_size, description=info.description, examples=info.examples)
            yield name, Annotated[int, sized]
        elif name == "order":
            told = f'Keys to sort by, separated by commas, "-" for descending: {query.sort.told}.'
            examples = [f"{sign}{key}" for key in [*query.sort.expressions][:1] for sign in ("", "-")]
            schema = {"pattern": _pattern_of([*query.sort.expressions])}  # told, not checked: the error names the keys
            sorting = Query(alias=alias, description=told, examples=examples, max_length=200, json_schema_extra=schema)
            yield name, Annotated[str | None, sorting]
        elif isinstance(kind := _filter(info), RangeFilter):
            bound = _bound(info.annotation)
            for end, word in (("min", "least"), ("max", "greatest")):
                told = info.description or f"The {word} {name}, included."
                ranged = Query(alias=f"{alias}_{end}", description=told, examples=info.examples)
                yield f"{name}_{end}", Annotated[bound | None, ranged]
        else:
            said = info.description or (kind.says.format(" or ".join(kind.paths(name))) if kind else None)
            bounds = [Field(max_length=LONGEST_TEXT)] if isinstance(kind, Search) else []
            query_parameter = Query(alias=alias, description=said, examples=info.examples)
            annotated: Any = Annotated
            yield name, annotated[(info.annotation, *info.metadata, *bounds, query_parameter)]


def _pattern_of(keys: Sequence[str]) -> str:
    key = rf"(-?({'|'.join(map(re.escape, keys))}))?"
    return rf"^\s*{key}\s*(,\s*{key}\s*)*$"


def _filter(info: FieldInfo) -> Filter | None:
    return next((each for each in info.metadata if isinstance(each, Filter)), None)


def _bound(annotation: Any) -> Any:
    """Return what is in the brackets of the `Between[...]` of a range."""
    for each in (annotation, *get_args(annotation)):
        if get_origin(each) is Between:
            return get_args(each)[0]
    raise DeclarationError(f"A range says what it is a range of, as in Range[Decimal], not {annotation!r}.")


def _gathered(query: type[ListQuery[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by field; the two ends of a range as one."""
    found = {}
    for name, info in query.model_fields.items():
        if isinstance(_filter(info), RangeFilter):
            ends = {end: values[f"{name}_{end}"] for end in ("min", "max")}
            found[name] = ends if any(each is not None for each in ends.values()) else None
        elif name in values:
            found[name] = values[name]
    return found


def _placed(error: Any) -> Any:
    return {**error, "loc": ("query", *("sort" if part == "order" else part for part in error["loc"]))}


def _refuse_unknown(request: Request) -> None:
    known = _known_to(request)
    unknown = [name for name in request.query_params.keys() if name not in known]  # noqa: SIM118 - not a dict
    if unknown:
        raise RequestValidationError(
            [_unknown(name, known if number < _MOST_HINTS else ()) for number, name in enumerate(unknown)]
        )


def _unknown(name: str, known: Collection[str]) -> dict[str, Any]:
    told = f"No such parameter{nearest(name, known)}"
    return {"type": "extra_forbidden", "loc": ("query", name[:_LONGEST_NAME]), "msg": told, "input": None}


def _known_to(request: Request) -> frozenset[str]:
    """Return the query parameters of a route, those of all its dependencies included; told once, and kept on it."""
    route: Any = request.scope["route"]
    known: frozenset[str] | None = getattr(route, _KNOWN, None)
    if known is None:
        contexts = [each for each in iter_route_contexts(request.app.routes) if each.original_route is route]
        dependants = [each.dependant for each in contexts] or [route.dependant]
        fields = (field for dependant in dependants for field in get_flat_params(dependant))
        known = frozenset(field.alias for field in fields if _is_in_query(field.field_info))
        setattr(route, _KNOWN, known)
    return known


def _is_in_query(info: Any) -> bool:
    return getattr(getattr(info, "in_", None), "value", None) == "query"
