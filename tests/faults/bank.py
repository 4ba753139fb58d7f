"""A bank: accounts, transfers between them, and what happens about each; the domain of the long tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.events import EventHandlers, RecordsEvents
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork


class Base(DeclarativeBase):
    """The declarative base."""


class Account(Base):
    """Money."""

    __tablename__ = "bank_account"
    __table_args__ = (CheckConstraint("balance >= 0", name="ck_bank_account_balance"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


@dataclass(frozen=True)
class Transferred:
    """Money went from one account to another."""

    number: int


class Transfer(RecordsEvents, Base):
    """The journal: one row a transfer, under the number that the caller gave it."""

    __tablename__ = "bank_transfer"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int]


class Audit(Base):
    """What a handler wrote about a transfer, in its transaction."""

    __tablename__ = "bank_audit"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(50))


handlers = EventHandlers()


class Bank(UnitOfWork, events=handlers):
    """The bank, sync."""

    accounts: Repository[Account]
    transfers: Repository[Transfer]
    audits: Repository[Audit]


class AsyncBank(AsyncUnitOfWork, events=handlers):
    """The bank, async."""

    accounts: AsyncRepository[Account]
    transfers: AsyncRepository[Transfer]
    audits: AsyncRepository[Audit]


class Told:
    """What handlers were told after a commit, and which of them is to fail before it."""

    numbers: list[int] = []  # noqa: RUF012 - there is one bank
    fails = False


@handlers.before_commit(Transferred)
def audit(event: Transferred, bank: Any) -> None:
    """Write about the transfer, in its transaction."""
    if Told.fails or event.number < 0:
        raise LookupError("the auditor is away")
    bank.audits.add(Audit(number=event.number, text="seen"))


@handlers.after_commit(Transferred)
def note(event: Transferred) -> None:
    """Tell of the transfer."""
    Told.numbers.append(event.number)


async def move(bank: Any, number: int, source: int, target: int, amount: int) -> None:
    """Move money, locking in the order of keys; *bank* is a unit of either colour, dressed as an async one."""
    accounts = {}
    for key in sorted({source, target}):
        accounts[key] = await bank.accounts.for_update().get_one(key)
    accounts[source].balance -= amount
    accounts[target].balance += amount
    transfer = bank.transfers.add(Transfer(number=number, amount=amount))
    transfer.record(Transferred(number))
