"""Services as dependencies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, get_type_hints

from fastapi import BackgroundTasks, Depends, Response, params
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection

from fastkit._generics import type_argument
from fastkit.deps._responses import by_status
from fastkit.deps.units import unit_of_work
from fastkit.errors import DeclarationError
from fastkit.service import Service
from fastkit.uow import AsyncUnitOfWork, RepositoryAttribute, UnitOfWork


def provide(service: type[Service[Any]]) -> Any:
    """
    Return the dependency that makes a service for a request, on the request's unit of work.

    >>> PlaceOrderDep = Annotated[PlaceOrder, provide(PlaceOrder)]

    The unit is the one in the brackets of `Service[Shop]`. Further parameters of the service's constructor are
    dependencies or have defaults, as in an endpoint.

    Raises:
        DeclarationError: The class does not say which unit of work it needs, or its `problems` are no errors.
    """
    kind: Any = service
    return Depends(_provider(kind))


_OF_FASTAPI = (HTTPConnection, Response, BackgroundTasks, SecurityScopes)


@cache
def _provider(service: Any) -> Callable[..., Any]:
    unit = _unit_of(service)

    async def make(**arguments: Any) -> Any:
        return service(**arguments)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in _parameters(service, unit)]
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # FastAPI reads it
    by_status(service.problems, f"{service.__qualname__}.problems")
    make.problems = frozenset(service.problems)  # type: ignore[attr-defined]  # for the OpenAPI schema
    make.fastkit_holds = unit  # type: ignore[attr-defined]
    make.__qualname__ = f"provide({service.__qualname__})"
    return make


def _parameters(service: Any, unit: Any) -> Iterator[inspect.Parameter]:
    """Yield what FastAPI gives the constructor; what is not declared keeps its default, or is refused without one."""
    hints = get_type_hints(service.__init__, include_extras=True)
    for name, parameter in inspect.signature(service).parameters.items():
        known = parameter.replace(annotation=hints.get(name, parameter.annotation))
        if name == "uow":
            yield parameter.replace(annotation=Any, default=unit_of_work(unit))
        elif _is_declared(known):
            yield known
        elif known.default is inspect.Parameter.empty:
            raise DeclarationError(
                f"{service.__qualname__}({name}=...) does not say where it comes from, so clients could choose it: "
                "write a dependency, as in Annotated[User, Depends(caller)], or a part of the request, Query()."
            )


def _is_declared(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter says that it is a dependency, a part of the request, or the request itself."""
    notes = (*getattr(parameter.annotation, "__metadata__", ()), parameter.default)
    is_request = isinstance(parameter.annotation, type) and issubclass(parameter.annotation, _OF_FASTAPI)
    return is_request or any(isinstance(each, params.Depends | params.Param | params.Body) for each in notes)


def _unit_of(service: Any) -> Any:
    unit = type_argument(service, Service) if isinstance(service, type) and issubclass(service, Service) else None
    if isinstance(repository := getattr(service, "repository", None), RepositoryAttribute):
        unit = repository.unit
    if not (isinstance(unit, type) and issubclass(unit, UnitOfWork | AsyncUnitOfWork)):
        name = getattr(service, "__name__", service)
        raise DeclarationError(
            f"provide({name}) does not know its unit of work: declare it as class {name}(Service[Shop])."
        )
    return unit
