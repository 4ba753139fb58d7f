"""
Two routes as they are usually written by hand, with FastAPI and SQLAlchemy alone, for the tour to compare with.

Do not copy this: `get_session` commits after the response has been sent, so a commit that fails comes too late,
and nothing remembers that an error was swallowed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from bookshop.models import Book, Payment
from bookshop.schemas import PaymentIn, PaymentOut, StockMove

sessions = async_sessionmaker(expire_on_commit=False)  # the app binds it: sessions.configure(bind=engine)
router = APIRouter(prefix="/by-hand", tags=["by hand"])


async def get_session() -> AsyncGenerator[AsyncSession]:
    """Give a request its session and commit at the end."""
    async with sessions() as session:
        yield session
        await session.commit()


SessionDep = Annotated[AsyncSession, Depends(get_session)]


@router.post("/payments", status_code=201)
async def record_payment(new: PaymentIn, session: SessionDep) -> PaymentOut:
    """Record money received, and believe that it is stored."""
    payment = Payment(**new.model_dump())
    session.add(payment)
    await session.flush()
    return PaymentOut.model_validate(payment)


@router.post("/stock-moves", status_code=204)
async def move_stock(move: StockMove, session: SessionDep) -> None:
    """Move copies from one edition of a book to another, and swallow an error half-way."""
    await session.execute(update(Book).where(Book.id == move.target).values(stock=Book.stock + move.copies))
    with suppress(IntegrityError):
        await session.execute(update(Book).where(Book.id == move.source).values(stock=Book.stock - move.copies))
