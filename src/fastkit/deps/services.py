"""Services as dependencies."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from fastapi import Depends

from fastkit._generics import type_argument
from fastkit.deps.units import unit_of_work
from fastkit.errors import DeclarationError
from fastkit.service import Service
from fastkit.uow import AsyncUnitOfWork, UnitOfWork


def provide(service: type[Service[Any]]) -> Any:
    """
    Return the dependency that makes a service for a request, on the request's unit of work.

    >>> PlaceOrderDep = Annotated[PlaceOrder, provide(PlaceOrder)]

    The unit is the one in the brackets of `Service[Shop]`. Further parameters of the service's constructor are
    dependencies or have defaults, as in an endpoint.

    Raises:
        DeclarationError: The class does not say which unit of work it needs.
    """
    kind: Any = service
    return Depends(_provider(kind))


@cache
def _provider(service: Any) -> Callable[..., Any]:
    unit = _unit_of(service)

    async def make(**arguments: Any) -> Any:
        return service(**arguments)

    hints = get_type_hints(service.__init__, include_extras=True)
    parameters = []
    for name, parameter in list(inspect.signature(service).parameters.items()):
        if name == "uow":
            changed = parameter.replace(annotation=Any, default=unit_of_work(unit))
        else:
            changed = parameter.replace(annotation=hints.get(name, parameter.annotation))
        parameters.append(changed.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # FastAPI reads it
    make.fastkit_holds = unit  # type: ignore[attr-defined]
    make.__qualname__ = f"provide({service.__qualname__})"
    return make


def _unit_of(service: Any) -> Any:
    unit = type_argument(service, Service) if isinstance(service, type) and issubclass(service, Service) else None
    if not (isinstance(unit, type) and issubclass(unit, UnitOfWork | AsyncUnitOfWork)):
        name = getattr(service, "__name__", service)
        raise DeclarationError(
            f"provide({name}) does not know its unit of work: declare it as class {name}(Service[Shop])."
        )
    return unit
