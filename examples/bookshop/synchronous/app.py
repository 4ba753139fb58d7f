"""
The bookshop with `def`: the same, without async.

    python -m bookshop.load
    uvicorn bookshop.synchronous.app:app
"""

from __future__ import annotations

import os

from fastapi import FastAPI

from bookshop.synchronous.routes import router
from bookshop.synchronous.shop import Shop
from fastkit import Database
from fastkit.deps import install


def create_app(database_url: str) -> FastAPI:
    """Return the bookshop on a database that has its tables."""
    database = Database(database_url)
    app = FastAPI(title="Bookshop", lifespan=database.lifespan)
    install(app, {Shop: database})
    app.include_router(router)
    return app


app = create_app(os.environ.get("BOOKSHOP_DATABASE", "sqlite:///bookshop.db"))
