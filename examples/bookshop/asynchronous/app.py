"""
The bookshop with `async def`.

    python -m bookshop.load
    uvicorn bookshop.asynchronous.app:app
"""

from __future__ import annotations

import os

from fastapi import FastAPI

from bookshop.asynchronous.routes import router
from bookshop.asynchronous.shop import Shop
from fastkit import AsyncDatabase
from fastkit.deps import install


def create_app(database_url: str) -> FastAPI:
    """Return the bookshop on a database that has its tables."""
    database = AsyncDatabase(database_url)
    app = FastAPI(title="Bookshop", lifespan=database.lifespan)
    install(app, {Shop: database})
    app.include_router(router)
    return app


app = create_app(os.environ.get("BOOKSHOP_DATABASE", "sqlite+aiosqlite:///bookshop.db"))
