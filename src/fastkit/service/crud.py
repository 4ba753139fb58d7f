"""Create, read, update and delete as a service: one step of each verb in a method of its own, to be overridden."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel

from fastkit.pages import Page, PageQuery
from fastkit.repository._marked import by_key
from fastkit.schemas import apply
from fastkit.service._crud_declaration import CrudDeclaration, arguments_of, as_replacement
from fastkit.service.preconditions import Precondition
from fastkit.service.service import Service

M = TypeVar("M")
C = TypeVar("C", bound=BaseModel)
P = TypeVar("P", bound=BaseModel)

Action: TypeAlias = Literal["list", "get", "create", "replace", "change", "delete"]
"""What is asked of a `CrudService`."""

_ANY = Precondition()


class Shown(NamedTuple):
    """
    A row as it is shown, and its version.

    Attributes:
        answer: The response model.
        version: The version of the row as a text, or None if its model has none.
        ident: The primary key of the row, a tuple if it is composite.
        modified: When the row was changed last, if its model has `Timestamps` and the answer is of its columns only.
    """

    answer: Any
    version: str | None
    ident: Any
    modified: datetime | None = None


class CrudService(CrudDeclaration, Service[Any], Generic[M, C, P]):
    """
    The rows of one model: listed, read, created, replaced, changed and deleted, each in a block that it commits.

    Its brackets name the mapped class, what a row is created and replaced by, and what it is changed by:

    >>> class Books(CrudService[Book, BookIn, BookPatch]):
    ...     repository = Shop.books
    ...     shows = BookOut
    ...
    ...     def validate(self, data: BookIn | BookPatch, book: Book | None) -> None:
    ...         with rules() as rule:
    ...             rule(data.price > 0, "must be positive", at="price")

    Attributes:
        repository: The repository, named on its unit of work.
        shows: The response model.
    """

    _awaits = False

    # -- verbs

    def page(self, query: PageQuery) -> Page[Any]:
        """Return one page, as response models."""
        self.authorise("list", None)
        found: Page[Any] = self.rows.into(self.shows).page(query)
        return found

    def get(self, ident: Any) -> Shown:
        """
        Return one row.

        Raises:
            NotFoundError: There is none.
        """
        self.authorise("get", None)
        return self._shown(ident)

    def create(self, data: C) -> Shown:
        """Create a row and return it."""
        with self.uow as unit:
            self.authorise("create", None)
            self.validate(data, None)
            entity = self.built(self.build(data))
            self.rows.add(entity)
            return self._saved(unit, entity)

    def replace(self, ident: Any, data: C, if_match: Precondition = _ANY) -> Shown:
        """
        Write all fields of a row and return it; what is absent gets its default.

        Raises:
            NotFoundError: There is none.
            PreconditionFailedError: The client has seen another version.
        """
        return self._written("replace", ident, as_replacement(data), if_match)

    def change(self, ident: Any, patch: P, if_match: Precondition = _ANY) -> Shown:
        """
        Write those fields of a row that are given, and return it.

        Raises:
            NotFoundError: There is none.
            PreconditionFailedError: The client has seen another version.
        """
        return self._written("change", ident, patch, if_match)

    def delete(self, ident: Any, if_match: Precondition = _ANY) -> None:
        """
        Delete a row.

        Raises:
            NotFoundError: There is none.
            PreconditionFailedError: The client has seen another version.
        """
        with self.uow as unit:
            entity = self.to_write.get_one(ident)
            self.authorise("delete", entity)
            self._check_seen(if_match, entity)
            self.rows.delete(entity)
            unit.commit()

    # -- steps

    def authorise(self, action: Action, entity: M | None) -> None:
        """Raise if the caller may not do this; *entity* is the row that is written, None for the other actions."""

    def validate(self, data: C | P, entity: M | None) -> None:
        """Raise if the data breaks a rule; *entity* is the row as it is, None if it is about to be created."""

    def build(self, data: C) -> M:
        """Return the new object."""
        built: M = self.model(**arguments_of(self.model, data))
        return built

    def save(self, entity: M) -> None:
        """Send what has changed, within the block; what belongs to the same transaction goes here, too."""
        self.uow.session.flush()

    def present(self, entity: M) -> Any:
        """Return what is shown of a row that was written: it is read as the response model, as the client will."""
        return self._shown(self.ident_of(entity)).answer

    # -- how

    def _written(self, action: Action, ident: Any, data: Any, if_match: Precondition) -> Shown:
        with self.uow as unit:
            entity = self.to_write.get_one(ident)
            self.authorise(action, entity)
            self._check_seen(if_match, entity)
            self.validate(data, entity)
            apply(entity, data)
            return self._saved(unit, entity)

    def _saved(self, unit: Any, entity: M) -> Shown:
        self.save(entity)
        shown = Shown(self.present(entity), self.version_of(entity), self.ident_of(entity))
        unit.commit()
        return shown

    def _shown(self, ident: Any) -> Shown:
        reader = self.rows.into(self.shows)
        found = by_key(self.uow.session, reader._projection, ident)  # noqa: SLF001 - no name for apps
        return Shown(found.shown, found.version, ident, self.told_date(found.modified))


class AsyncCrudService(CrudDeclaration, Service[Any], Generic[M, C, P]):
    """
    Same as `CrudService`, but awaited.

    >>> class Books(AsyncCrudService[Book, BookIn, BookPatch]):
    ...     repository = Shop.books
    ...     shows = BookOut
    """

    _awaits = True

    # -- verbs

    async def page(self, query: PageQuery) -> Page[Any]:
        """Same as `CrudService.page`."""
        await self.authorise("list", None)
        found: Page[Any] = await self.rows.into(self.shows).page(query)
        return found

    async def get(self, ident: Any) -> Shown:
        """Same as `CrudService.get`."""
        await self.authorise("get", None)
        return await self._shown(ident)

    async def create(self, data: C) -> Shown:
        """Same as `CrudService.create`."""
        async with self.uow as unit:
            await self.authorise("create", None)
            await self.validate(data, None)
            entity = self.built(await self.build(data))
            self.rows.add(entity)
            return await self._saved(unit, entity)

    async def replace(self, ident: Any, data: C, if_match: Precondition = _ANY) -> Shown:
        """Same as `CrudService.replace`."""
        return await self._written("replace", ident, as_replacement(data), if_match)

    async def change(self, ident: Any, patch: P, if_match: Precondition = _ANY) -> Shown:
        """Same as `CrudService.change`."""
        return await self._written("change", ident, patch, if_match)

    async def delete(self, ident: Any, if_match: Precondition = _ANY) -> None:
        """Same as `CrudService.delete`."""
        async with self.uow as unit:
            entity = await self.to_write.get_one(ident)
            await self.authorise("delete", entity)
            self._check_seen(if_match, entity)
            await self.rows.delete(entity)
            await unit.commit()

    # -- steps

    async def authorise(self, action: Action, entity: M | None) -> None:
        """Same as `CrudService.authorise`."""

    async def validate(self, data: C | P, entity: M | None) -> None:
        """Same as `CrudService.validate`."""

    async def build(self, data: C) -> M:
        """Same as `CrudService.build`."""
        built: M = self.model(**arguments_of(self.model, data))
        return built

    async def save(self, entity: M) -> None:
        """Same as `CrudService.save`."""
        await self.uow.session.flush()

    async def present(self, entity: M) -> Any:
        """Same as `CrudService.present`."""
        return (await self._shown(self.ident_of(entity))).answer

    # -- how

    async def _written(self, action: Action, ident: Any, data: Any, if_match: Precondition) -> Shown:
        async with self.uow as unit:
            entity = await self.to_write.get_one(ident)
            await self.authorise(action, entity)
            self._check_seen(if_match, entity)
            await self.validate(data, entity)
            apply(entity, data)
            return await self._saved(unit, entity)

    async def _saved(self, unit: Any, entity: M) -> Shown:
        await self.save(entity)
        shown = Shown(await self.present(entity), self.version_of(entity), self.ident_of(entity))
        await unit.commit()
        return shown

    async def _shown(self, ident: Any) -> Shown:
        reader = self.rows.into(self.shows)
        found = await self.uow.session.run_sync(by_key, reader._projection, ident)  # noqa: SLF001 - no name for apps
        return Shown(found.shown, found.version, ident, self.told_date(found.modified))
