"""The apps that are asked, each on a database of its own, and what is asked of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from security import gadgets
from security.driving import Statements, asked, strange_in
from security.grammar import Asked, Target

from bookshop.asynchronous.app import create_app
from bookshop.asynchronous.shop import Shop
from bookshop.catalogue import classics
from bookshop.models import Base, Customer
from fastkit.database import AsyncDatabase
from fastkit.deps import install

GADGET = [
    *("id", "name", "first", "q", "code", "howMany_min", "howMany_max", "exactly", "big", "bigger_min", "bigger_max"),
    *(
        "price_min",
        "price_max",
        "costs",
        "ratio_min",
        "ratio_max",
        "madeOn_min",
        "madeOn_max",
        "seenAt_min",
        "seenAt_max",
    ),
    *("opens", "colour", "active", "isNew", "maker", "makers", "many", "sort", "size"),
]
BOOK = [
    "q",
    "author_id",
    "author",
    "language",
    "year_min",
    "year_max",
    "price_min",
    "price_max",
    "sort",
    "page",
    "size",
]
PAGE = ["page", "size"]
NEW_GADGET = {
    "name": "x",
    "code": "00000000-0000-0000-0000-00000000ffff",
    "howMany": 1,
    "big": 2,
    "price": "1.5",
    "ratio": 0.5,
    "madeOn": "2026-01-01",
    "seenAt": "2026-01-01T00:00:00Z",
    "opens": "12:00",
    "colour": "red",
    "active": True,
    "data": {"a": [1]},
    "makerId": 1,
    "parts": [{"name": "y", "parts": [{"name": "z"}]}],
}
NEW_BOOK = {"sku": "A-1", "title": "x", "author_id": 1, "year": 1815, "language": "en", "price": "9.90", "stock": 1}
NEW_REVIEW = {"customer_id": 1, "stars": 5, "text": "x"}
POST = ("POST",)


@dataclass
class Scene:
    """An app, what to ask of it, and what it sends to its database."""

    app: Any
    targets: list[Target]
    statements: Statements
    metadata: Any

    @property
    def strangers(self) -> dict[str, set[str]]:
        """Return the shapes of statements that have something in them that no statement should have."""
        found = {shape: strange_in(shape, self.metadata) for shape in self.statements.shapes}
        return {shape: strange for shape, strange in found.items() if strange}


@asynccontextmanager
async def laboratory(url: str) -> AsyncIterator[Scene]:
    """Give the app with a column of each type."""
    async with AsyncDatabase(url, cursor_keys=gadgets.KEYS) as database:
        await database.create_all(gadgets.Base.metadata)
        async with gadgets.Lab.serving(database) as lab:
            await gadgets.fill(lab)
        scene = Scene(
            gadgets.create_app(database), lab_targets(), Statements(database.engine.sync_engine), gadgets.Base.metadata
        )
        for target in scene.targets:
            if target.feeds:
                target.cursors += [cursor async for cursor in _cursors(scene.app, target.path)]
        yield scene


@asynccontextmanager
async def bookshop(url: str) -> AsyncIterator[Scene]:
    """Give the bookshop of the examples."""
    async with AsyncDatabase(url) as database:
        await database.create_all(Base.metadata)
        async with Shop.serving(database) as shop, shop.begin():
            shop.authors.add_all(classics())
            shop.customers.add(Customer(name="Ada", email="ada@example.org"))
        app = create_app(url)
        install(app, {Shop: database})
        yield Scene(app, shop_targets(), Statements(database.engine.sync_engine), Base.metadata)


SCENES: dict[str, Any] = {"bookshop": bookshop, "laboratory": laboratory}


async def _cursors(app: Any, path: str) -> AsyncIterator[str]:
    for query in (b"size=2", b"size=2&sort=-price", b"size=3&sort=seen_at,-big"):
        _, _, body = await asked(app, Asked("GET", path, query))
        yield json.loads(body)["next_cursor"]


def lab_targets() -> list[Target]:
    """Return the routes of the laboratory."""
    return [
        Target("/gadgets", [*GADGET, "page"]),
        Target("/gadgets/feed", [*GADGET, "cursor", "cursor"], feeds=True),
        Target("/gadgets/other", ["sort", "size", "cursor"], feeds=True),
        Target("/gadgets/slice", PAGE),
        Target("/gadgets.json", [*GADGET, "page"]),
        Target("/gadgets.csv", [*GADGET, "page"]),
        *(Target(f"/gadgets/{way}*") for way in ("", "by-code/", "by-big/", "by-name/")),
        Target("/gadgets", body=NEW_GADGET, methods=POST),
        Target("/makers", body=[{"id": 2, "name": "x"}, {"id": 3, "name": "y"}], methods=POST),
    ]


def shop_targets() -> list[Target]:
    """Return the routes of the bookshop."""
    return [
        Target("/books", BOOK),
        Target("/books", BOOK),
        *(Target(path, PAGE) for path in ("/authors", "/customers", "/books/1/reviews", "/books/*/reviews")),
        *(Target(path) for path in ("/books/*", "/orders/*")),
        Target("/authors", body={"name": "x"}, methods=POST),
        Target("/books", body=NEW_BOOK, methods=POST),
        Target("/books/1/reviews", body=NEW_REVIEW, methods=POST),
        Target("/books/*/reviews", body=NEW_REVIEW, methods=POST),
        Target("/customers", body={"name": "x", "email": "x@example.org"}, methods=POST),
        Target("/orders", body={"customer_id": 1, "lines": {"1": 1, "2": 1}}, methods=POST),
        Target("/payments", body={"order_id": 1, "reference": "x", "amount": "1.50"}, methods=POST),
        Target("/books/*", body={}, methods=("DELETE", "PATCH")),
    ]
