"""Services: use cases as plain classes that hold a unit of work."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Generic, TypeVar

from fastkit.errors import FastkitError
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

U = TypeVar("U", bound=UnitOfWork | AsyncUnitOfWork)


class Service(Generic[U]):
    """
    A use case: fetch, validate, call the pure domain, save; lives as long as its unit of work.

    It knows nothing of HTTP, so it works the same in a route, a worker, a script and a test:

    >>> class Restock(Service[Shop]):
    ...     async def __call__(self, book_id: int, copies: int) -> None:
    ...         async with self.uow as shop:
    ...             book = await shop.books.for_update().get_one(book_id)
    ...             book.stock += copies
    ...             await shop.commit()
    >>> async with Shop(database) as shop:
    ...     await Restock(shop)(book_id=1, copies=5)

    Attributes:
        uow: The unit of work; the block that the service opens joins the one that is open already.
        problems: The errors of its own that a caller has to expect; `provide` puts them into the OpenAPI schema.
    """

    problems: ClassVar[Collection[type[FastkitError]]] = ()

    def __init__(self, uow: U) -> None:
        self.uow = uow
