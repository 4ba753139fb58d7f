"""Columns that the database computes are read with the rest of an object."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Computed
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.database import AsyncDatabase
from fastkit.repository import AsyncRepository
from fastkit.uow import AsyncUnitOfWork


class Base(DeclarativeBase):
    """The metadata of this model."""


class Sum(Base):
    """A number, and its double."""

    __tablename__ = "sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    double: Mapped[int] = mapped_column(Computed("number * 2"))


class Sums(AsyncUnitOfWork):
    """The unit."""

    sums: AsyncRepository[Sum]


def test_c5_what_an_update_left_unread(tmp_path: Path) -> None:
    """A later block reads the columns that an UPDATE of an earlier one made unknown."""

    async def work() -> tuple[int, int]:
        database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'sums.db'}")
        await database.create_all(Base.metadata)
        async with Sums(database).begin() as unit:
            unit.sums.add(Sum(id=1, number=3))
        async with Sums.serving(database) as unit:
            async with unit:
                changed = await unit.sums.get_one(1)
                changed.number += 2
                await unit.commit()
            async with unit:
                found = await unit.sums.get_one(1)
                shown = found.number, found.double
        await database.close()
        return shown

    assert asyncio.run(work()) == (5, 10)
