"""How a unit of work is told its scopes, and how one of them is lifted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self, TypeVar

from fastkit.database import GuardedSession, ScopeSet, Scoping
from fastkit.errors import DeclarationError
from fastkit.models import Scope
from fastkit.uow._declaration import models_of

V = TypeVar("V")


class Scoped:
    """What a unit of work knows of its scopes."""

    _scopes: ClassVar[tuple[Scope[Any], ...]] = ()
    _scope_set: ClassVar[ScopeSet | None] = None
    _scoping: Scoping | None
    _guarded: GuardedSession

    @classmethod
    def _declare_scopes(cls, scopes: Sequence[Scope[Any]]) -> None:
        given: Any = scopes
        if isinstance(given, Scope):
            raise DeclarationError(f"{cls.__qualname__}: scopes is a list, as in scopes=[{given.name}].")
        wrong = [each for each in given if not isinstance(each, Scope)]
        if wrong:
            raise DeclarationError(f"{cls.__qualname__}: scopes is a list of Scope objects, not of {wrong[0]!r}.")
        cls._scopes = (*cls._scopes, *scopes)
        cls._scope_set = None

    @classmethod
    def _scope_set_of(cls) -> ScopeSet:
        if cls._scope_set is None or not cls._scope_set.is_current:
            cls._scope_set = ScopeSet.of(cls._scopes, models_of(cls))
        return cls._scope_set

    def _new_scoping(self) -> Scoping | None:
        found = self._scope_set_of()
        return None if found.is_empty else Scoping(found)

    def scoped(self, scope: Scope[V], value: V) -> Self:
        """
        Set the value of a scope, such as the tenant of the caller, and return the unit.

        It is set once, before anything of the scope is read or written, by hand or in a dependency:

        >>> async def shop_of_caller(shop: ShopDep, caller: CallerDep) -> Shop:
        ...     return shop.scoped(tenant, caller.tenant_id)

        Raises:
            DeclarationError: The class of the unit does not name the scope.
            ScopeError: The value is None, or another one was set before.
        """
        self._scoping_for(scope).set(scope, value)
        return self

    def unscoped(self, *scopes: Scope[Any], reason: str) -> AbstractContextManager[None]:
        """
        Return a context, entered with `with`, in which some of the scopes do not hold; the reason is logged.

        >>> with shop.unscoped(soft_delete, reason="restore a book"):
        ...     book = await shop.books.get_one(1)

        Rows of others can be read and written there, and new rows need their values given. What was read stays read.

        Raises:
            DeclarationError: No scope is named, or one that the unit does not have, or there is no reason.
        """
        scoping = self._scoping_for(*scopes[:1])
        return scoping.lift(self._guarded, scopes, reason, type(self).__name__)

    def _scoping_for(self, *scopes: Scope[Any]) -> Scoping:
        if self._scoping is None:
            name = type(self).__name__
            raise DeclarationError(
                f"{name} has no scope {scopes[0].name if scopes else ''!r} that is about one of its models: name it by "
                f"the class, class {name}(UnitOfWork, scopes=[...])."
            )
        return self._scoping
