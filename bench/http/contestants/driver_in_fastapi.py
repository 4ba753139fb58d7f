"""The floor of stock FastAPI routes: the driver alone, its rows validated by the response model; no session, no ORM."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

from bench.http.shop import BookOut, Some
from fastapi import FastAPI, HTTPException

floor = run_path(str(Path(__file__).with_name("driver.py")))
database: Any = floor["database"]
ASKS = floor["ASKS"]

app = FastAPI(lifespan=floor["lifespan"])


@app.get("/books/{book_id}")
async def read_book(book_id: int) -> BookOut:
    """Return a book."""
    rows = await database.rows(floor["ONE"], book_id)
    if not rows:
        raise HTTPException(404, "Book not found")
    return BookOut(**rows[0])


@app.get("/books")
async def read_books(size: int, page: int = 1) -> Some[BookOut]:
    """Return some books, and whether there are more."""
    rows = await database.rows(floor["PAGE"], size + 1, (page - 1) * size)
    return Some[BookOut](items=rows[:size], has_more=len(rows) > size, page=page, size=size)
