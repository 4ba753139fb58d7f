"""Services come as dependencies, on the request's unit of work."""

from typing import Annotated, Any, Generic, TypeVar

import pytest
from colours import awaitable
from conftest import AsyncShop, Shop, World
from deps.apps import answer, app_of, author, client_of, coloured, problem_of, rows
from fastapi import Depends, Header, Query

from bookshop.models import Author
from fastkit.deps import check_routes, found, provide, transaction, unit_of_work
from fastkit.errors import DeclarationError
from fastkit.service import Service, rules

pytestmark = pytest.mark.anyio


def clock() -> str:
    """Return the time."""
    return "noon"


async def run(world: World, service: Any, **request: Any) -> Any:
    """Return what a service of this class answers through an endpoint."""
    app = app_of(world)

    async def call(use_case: Annotated[Any, provide(service)]) -> Any:
        return await use_case()

    app.get("/")(coloured(world, call))
    check_routes(app)
    return await answer(app, **request)


async def test_c14_a_service_commits_before_the_answer(world: World) -> None:
    """A use case opens its block and commits; the route only speaks HTTP."""

    class Register(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        async def __call__(self) -> int:
            async with awaitable(self.uow) as shop:
                new = shop.authors.add(author())
                await shop.commit()
                return int(new.id)

    response = await run(world, Register)

    assert response.json() > 0
    assert rows(world, Author) == 1


async def test_c14_a_service_that_breaks_rules_stores_nothing(world: World) -> None:
    """Every broken rule is in the problem."""

    class Register(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        async def __call__(self) -> None:
            async with awaitable(self.uow) as shop:
                shop.authors.add(author())
                with rules() as rule:
                    rule(False, "must be alive", at="author.name")
                    rule(False, "is closed")
                await shop.commit()

    problem = problem_of(await run(world, Register))

    assert problem["status"] == 422
    assert problem["errors"] == [
        {"detail": "must be alive", "pointer": "/author/name"},
        {"detail": "is closed"},
    ]
    assert rows(world, Author) == 0


async def test_provide_fills_the_rest_of_the_constructor(world: World) -> None:
    """Further parameters are dependencies or parts of the request; one with a mere default is for nobody outside."""

    class Greet(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        def __init__(
            self,
            uow: Any,
            now: Annotated[str, Depends(clock)],
            who: Annotated[str, Query()],
            *,
            tongue: Annotated[str, Header()] = "en",
            shout: bool = Query(default=False),
            size: int = 3,
        ) -> None:
            super().__init__(uow)
            self.words = [now, who, tongue, shout, size]

        async def __call__(self) -> list[Any]:
            return [*self.words, type(self.uow).__name__]

    response = await run(world, Greet, path="/?who=Ada&size=4&shout=yes", headers={"tongue": "la"})

    assert response.json() == ["noon", "Ada", "la", True, 3, world.unit.__name__]


@pytest.mark.parametrize("annotation", [int, Annotated[int, "a note"]])
def test_a_parameter_from_nowhere_is_told_at_import(annotation: Any) -> None:
    """FastAPI would take it for a query parameter, and let every client choose who it is."""

    class Greet(Service[Shop]):
        def __init__(self, uow: Shop, caller: annotation) -> None:
            super().__init__(uow)

    with pytest.raises(DeclarationError, match=r"caller=\.\.\..*clients could choose it.*Depends"):
        provide(Greet)


async def test_provide_gives_services_to_services(world: World) -> None:
    """A service that needs another one gets it on the same unit."""

    class Stock(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        pass

    class Order(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        def __init__(self, uow: Any, stock: Annotated[Stock, provide(Stock)]) -> None:
            super().__init__(uow)
            self.stock = stock

        async def __call__(self) -> bool:
            return self.stock.uow is self.uow

    response = await run(world, Order)

    assert response.json() is True


async def test_provide_takes_a_unit_with_another_name(world: World) -> None:
    """A parameter with another name than `uow` says what it is, as one of an endpoint does."""

    class Renamed(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        def __init__(self, shop: Annotated[Any, unit_of_work(world.unit)]) -> None:
            super().__init__(shop)

        async def __call__(self) -> str:
            return type(self.uow).__name__

    response = await run(world, Renamed)

    assert response.json() == world.unit.__name__


async def test_provide_knows_the_unit_of_a_parent(world: World) -> None:
    """A service inherits its brackets, and a generic parent gets them from its child."""
    uow = TypeVar("uow")

    class Parent(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        async def __call__(self) -> str:
            return f"{type(self).__name__} on {type(self.uow).__name__}"

    class Child(Parent):
        pass

    class Audited(Service[uow], Generic[uow]):  # type: ignore[type-var]  # bound in the parent
        async def __call__(self) -> str:
            return f"{type(self).__name__} on {type(self.uow).__name__}"

    class Grandchild(Audited[world.unit]):  # type: ignore[name-defined]  # same
        pass

    answers = [(await run(world, each)).json() for each in (Parent, Child, Grandchild)]

    assert answers == [f"{name} on {world.unit.__name__}" for name in ("Parent", "Child", "Grandchild")]


async def test_c14_a_service_joins_the_routes_transaction(world: World) -> None:
    """Under `transaction` the commit() of a service flushes, and an error of the route takes it back."""

    class Register(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        async def __call__(self) -> None:
            async with awaitable(self.uow) as shop:
                shop.authors.add(author())
                await shop.commit()

    app = app_of(world)

    async def work(
        shop: Annotated[Any, transaction(world.unit)], use: Annotated[Any, provide(Register)], fail: bool
    ) -> None:
        await use()
        if fail:
            raise ValueError

    app.post("/")(coloured(world, work))

    async with client_of(app) as client:
        statuses = [(await client.post(f"/?fail={fail}")).status_code for fail in ("true", "false")]

    assert statuses == [500, 200]
    assert rows(world, Author) == 1


def test_provide_refuses_a_service_without_a_unit() -> None:
    """A class without brackets, or no service at all, is told with the remedy."""

    class Bare(Service):  # type: ignore[type-arg]  # the mistake
        pass

    with pytest.raises(DeclarationError, match=r"class Bare\(Service\[Shop\]\)"):
        provide(Bare)
    with pytest.raises(DeclarationError, match=r"class Shop\(Service\[Shop\]\)"):
        provide(Shop)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("unit", [Shop, AsyncShop])
def test_provide_is_memoised(unit: Any) -> None:
    """Two askers share the service within a request, because they share the dependency."""

    class One(Service[unit]):
        pass

    assert provide(One).dependency is provide(One).dependency
    assert provide(One).dependency is not found(unit.books).dependency
