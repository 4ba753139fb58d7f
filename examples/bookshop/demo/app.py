"""The bookshop as the tour sees it: with a careless route, its hand-written counterpart and a count of statements."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from sqlalchemy import Engine, event, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookshop import handwritten
from bookshop.asynchronous.app import create_app
from bookshop.asynchronous.shop import Shop
from bookshop.models import Book
from bookshop.schemas import StockMove
from fastkit.deps import unit_of_work
from fastkit.errors import CheckError

STATEMENTS = "X-Statements"
"""Response header: how many SELECT, INSERT, UPDATE and DELETE the request has sent."""

_sent: ContextVar[list[str]] = ContextVar("sent")
router = APIRouter(tags=["careless"])


@router.post("/stock-moves", status_code=204)
async def move_stock(move: StockMove, shop: Annotated[Shop, unit_of_work(Shop)]) -> None:
    """Move copies from one edition of a book to another, and swallow an error half-way."""
    async with shop:
        session = shop.session
        await session.execute(update(Book).where(Book.id == move.target).values(stock=Book.stock + move.copies))
        with suppress(CheckError):
            await session.execute(update(Book).where(Book.id == move.source).values(stock=Book.stock - move.copies))
        await shop.commit()


def demo_app(database_url: str) -> FastAPI:
    """Return the bookshop with what the tour needs besides; SQLite only."""
    engine = create_async_engine(database_url, poolclass=NullPool)
    event.listen(engine.sync_engine, "connect", _enforce_foreign_keys)
    handwritten.sessions.configure(bind=engine)
    app = create_app(database_url)
    app.include_router(router)
    app.include_router(handwritten.router)
    app.add_middleware(CountStatements)
    return app


class CountStatements:
    """Middleware that tells in a response header how many statements the request has sent; lives as long as the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and count."""
        sent: list[str] = []
        _sent.set(sent)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[STATEMENTS] = str(len(sent))
            await send(message)

        await self._app(scope, receive, send_counted)


@event.listens_for(Engine, "before_cursor_execute")
def _count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
    if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) and (sent := _sent.get(None)) is not None:
        sent.append(statement)


def _enforce_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
