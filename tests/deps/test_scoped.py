"""A dependency sets the scopes of a request's unit of work, for whatever else the request asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from fastapi.routing import APIRoute
from scopes.notes import AsyncShop, Base, Note, NoteOut, NoteQuery, fill, owner, tenant
from sqlalchemy.orm import Session

from fastkit.database import AsyncDatabase
from fastkit.deps import DirectRoute, found, install, listed, provide, transaction, unit_of_work
from fastkit.pages import Page
from fastkit.service import Service

ShopDep = Annotated[AsyncShop, unit_of_work(AsyncShop)]


class AddNote(Service[AsyncShop]):
    """Add a note."""

    async def __call__(self, slug: str) -> NoteOut:
        """Store it."""
        async with self.uow.begin() as shop:
            return await shop.notes.into(NoteOut).insert({"slug": slug, "folder_id": 11})


async def scope_by_caller(shop: ShopDep, x_tenant: Annotated[int | None, Header()] = None) -> None:
    """Set the scopes, if it is known who calls."""
    if x_tenant is not None:
        shop.scoped(tenant, x_tenant).scoped(owner, 5)


def app_on(database: AsyncDatabase, route_class: Any) -> FastAPI:
    """Return an app whose every route is scoped."""
    app = FastAPI(lifespan=database.lifespan)
    router = APIRouter(route_class=route_class, dependencies=[Depends(scope_by_caller)])

    @router.get("/notes")
    async def notes(shop: ShopDep, query: Annotated[NoteQuery, listed(NoteQuery)]) -> Page[NoteOut]:
        return await shop.notes.into(NoteOut).page(query)

    @router.get("/notes/{note_id}")  # noqa: FAST003 - found() reads it
    async def note(note: Annotated[NoteOut, found(AsyncShop.notes, NoteOut)]) -> NoteOut:
        return note

    @router.post("/notes", status_code=201)
    async def add(slug: str, add_note: Annotated[AddNote, provide(AddNote)]) -> NoteOut:
        return await add_note(slug)

    @router.delete("/notes/{note_id}", status_code=204)
    async def remove(note_id: int, shop: Annotated[AsyncShop, transaction(AsyncShop)]) -> None:
        await shop.notes.delete(await shop.notes.get_one(note_id))

    app.include_router(router)
    install(app, {AsyncShop: database})
    return app


@pytest.mark.parametrize("route_class", [None, DirectRoute], ids=["stock", "direct"])
def test_a_request_sees_its_tenant(tmp_path: Path, route_class: Any) -> None:
    """Lists, single rows, services and transactions of a request have the scopes; without a caller nothing is shown."""

    async def visit() -> list[Any]:
        database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'notes.db'}")
        await database.create_all(Base.metadata)
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda sync: fill(Session(sync)))
        app = app_on(database, route_class or APIRouter().route_class)
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://notes") as client:
                ours, theirs = {"X-Tenant": "1"}, {"X-Tenant": "2"}
                return [
                    await client.get("/notes", headers=ours),
                    await client.get("/notes", headers=theirs),
                    await client.get("/notes/2", headers=ours),
                    await client.delete("/notes/2", headers=ours),
                    await client.delete("/notes/1", headers=ours),
                    await client.get("/notes/1", headers=ours),
                    await client.post("/notes?slug=new", headers=ours),
                    await client.get("/notes?page=1", headers=ours),
                    await client.get("/notes"),
                    await client.get("/notes/1"),
                    await client.post("/notes?slug=new"),
                ]

    answers = asyncio.run(visit())

    assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 204, 404, 201, 200, 500, 500, 500]
    assert [[each["id"] for each in answer.json()["items"]] for answer in answers[:2]] == [
        [1, 3, 7, 9],
        [2, 4, 8, 10, 90],
    ]
    assert [each["slug"] for each in answers[7].json()["items"]] == ["n11", "n20", "n21", "new"]
    assert "scope" not in answers[8].text
    assert Note.__table__.name not in answers[8].text


@pytest.mark.parametrize("route_class", [APIRoute, DirectRoute])
@pytest.mark.parametrize("headers", [{}, {"X-Tenant": "x"}])
def test_a_scope_that_the_request_does_not_give_is_its_own_fault(
    tmp_path: Path, route_class: Any, headers: dict[str, str]
) -> None:
    """FastAPI calls `found` though the parameter of the dependency before it is invalid: 422, and nothing is read."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/scoped.db")

    async def needs_tenant(shop: ShopDep, x_tenant: Annotated[int, Header()]) -> None:
        shop.scoped(tenant, x_tenant).scoped(owner, 5)

    app, router = FastAPI(), APIRouter(route_class=route_class, dependencies=[Depends(needs_tenant)])

    @router.get("/notes/{note_id}")  # noqa: FAST003 - found() reads it
    async def note(note: Annotated[NoteOut, found(AsyncShop.notes, NoteOut)]) -> NoteOut:
        return note

    app.include_router(router)
    install(app, {AsyncShop: database})

    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://shop") as client:
            answer = await client.get("/notes/1", headers=headers)
        await database.close()
        return answer

    answer = asyncio.run(ask())

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "x-tenant"
