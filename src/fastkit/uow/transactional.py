"""Make a function a transaction, and run it again when it loses against another one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, TypeVar, cast, overload

from typing_extensions import Unpack

from fastkit.database import Asked, Retry
from fastkit.errors import DeclarationError
from fastkit.uow.blocks import BlockOptions
from fastkit.uow.unit_of_work import AsyncUnitOfWork, UnitOfWork

F = TypeVar("F", bound=Callable[..., Any])


@overload
def transactional(function: F, /) -> F: ...
@overload
def transactional(*, retry: Retry | None = None, **options: Unpack[Asked]) -> Callable[[F], F]: ...
def transactional(
    function: F | None = None, /, *, retry: Retry | None = None, **options: Unpack[Asked]
) -> F | Callable[[F], F]:
    """
    Run a function in a block that commits on a clean exit; its first parameter is the unit, or has it as `uow`.

    >>> class Transfer(Service[Bank]):
    ...     @transactional(isolation="SERIALIZABLE", retry=Retry(attempts=5))
    ...     async def __call__(self, source: int, target: int, amount: Decimal) -> None: ...

    Inside an open block it joins, as every block does. With *retry* it must be the outermost one, and runs again as
    `database.run` does: in a new session, so it reads repositories from the unit and takes keys, not objects.

    Args:
        function: A function or a method, `async` or not.
        retry: How often; None never repeats.
        options: The options of `UnitOfWork.block`.

    Raises:
        DeclarationError: Not such a function; told when it is decorated or, for its first argument, when it is called.
        BlockMismatchError: When called, if it is to be retried inside an open block.
    """
    if function is None:
        return partial(_decorated, retry=retry, options=options)
    return _decorated(function, retry=retry, options=options)


def _decorated(function: F, *, retry: Retry | None, options: Asked) -> F:
    given: object = function
    if not callable(given) or isinstance(given, type) or _yields(given):
        raise DeclarationError(f"@transactional decorates a function that returns, not {given!r}.")
    if not inspect.signature(function).parameters:
        raise DeclarationError(
            f"{_name(function)} needs a first parameter: the unit of work, or what has one as `uow`."
        )
    if retry is not None and not isinstance(retry, Retry):
        raise DeclarationError(f"retry={retry!r}: write Retry(attempts=...).")

    BlockOptions(**options)  # told here, and not when it is called

    @wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        unit = _unit_in(args, more, function, UnitOfWork)
        if retry is not None:
            return unit._repeat(partial(function, *args, **more), retry, options)  # noqa: SLF001 - no name for apps
        with unit.begin(**options):
            return function(*args, **more)

    @wraps(function)
    async def call_async(*args: Any, **more: Any) -> Any:
        unit = _unit_in(args, more, function, AsyncUnitOfWork)
        if retry is not None:
            work: Callable[[], Awaitable[Any]] = partial(function, *args, **more)
            return await unit._repeat(work, retry, options)  # noqa: SLF001 - same
        async with unit.begin(**options):
            return await function(*args, **more)

    return cast("F", call_async if inspect.iscoroutinefunction(function) else call)


U = TypeVar("U", UnitOfWork, AsyncUnitOfWork)


def _unit_in(args: tuple[Any, ...], more: dict[str, Any], function: Callable[..., Any], kind: type[U]) -> U:
    first = args[0] if args else more.get(next(iter(inspect.signature(function).parameters)))
    unit = first if isinstance(first, UnitOfWork | AsyncUnitOfWork) else getattr(first, "uow", None)
    if not isinstance(unit, kind):
        raise DeclarationError(
            f"{_name(function)} is @transactional, so its first argument is a unit of work or has one as `uow`; "
            f"this is {type(first).__name__}. `def` takes a UnitOfWork, `async def` an AsyncUnitOfWork."
        )
    return unit


def _yields(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", function))
