"""Models of several tenants, some of whose rows are deleted, and the units that keep them apart."""

from __future__ import annotations

from typing import Annotated, Any

from sqlalchemy import ForeignKey, String, Table, UniqueConstraint, or_, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column, relationship

from fastkit.models import Scope, SoftDelete, Timestamps, soft_delete
from fastkit.repository import AsyncRepository, ListQuery, Repository, Sort
from fastkit.schemas import From, Schema
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

OURS, THEIRS = 1, 2


class Base(DeclarativeBase):
    """The metadata of these models."""


class Country(Base):
    """For everybody."""

    __tablename__ = "sc_country"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Folder(Base):
    """Of one tenant."""

    __tablename__ = "sc_folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column()
    name: Mapped[str] = mapped_column(String(50))
    country_id: Mapped[int | None] = mapped_column(ForeignKey("sc_country.id"))
    country: Mapped[Country | None] = relationship(lazy="raise")
    notes: Mapped[list[Note]] = relationship(back_populates="folder", order_by="Note.id")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("sc_folder.id"))
    parent: Mapped[Folder | None] = relationship(remote_side="Folder.id")


class Note(SoftDelete, Timestamps, Base):
    """Of one tenant, and hidden when deleted."""

    __tablename__ = "sc_note"
    __table_args__ = (UniqueConstraint("tenant_id", "slug"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column()
    slug: Mapped[str] = mapped_column(String(50))
    stars: Mapped[int] = mapped_column(default=0)
    folder_id: Mapped[int] = mapped_column(ForeignKey("sc_folder.id"))
    folder: Mapped[Folder] = relationship(back_populates="notes")
    lines: Mapped[list[Line]] = relationship(back_populates="note", order_by="Line.id", cascade="all, delete-orphan")


class Line(SoftDelete, Base):
    """Of a note."""

    __tablename__ = "sc_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column()
    text: Mapped[str] = mapped_column(String(50))
    note_id: Mapped[int] = mapped_column(ForeignKey("sc_note.id"))
    note: Mapped[Note] = relationship(back_populates="lines")


class Draft(Base):
    """Of one owner, and seen by all of the tenant once it is public."""

    __tablename__ = "sc_draft"
    __table_args__ = (UniqueConstraint("id", "tenant_id", "owner_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column()
    owner_id: Mapped[int] = mapped_column()
    is_public: Mapped[bool] = mapped_column(default=False)


tenant = Scope[int]("tenant", "tenant_id", exempt=[Country])
owner = Scope[int](
    "owner",
    "owner_id",
    where=lambda draft, user_id: or_(draft.is_public, draft.owner_id == user_id),
    models=[Draft],
)


class Shop(UnitOfWork, scopes=[tenant, owner]):
    """The unit, sync."""

    countries: Repository[Country]
    folders: Repository[Folder]
    notes: Repository[Note]
    lines: Repository[Line]
    drafts: Repository[Draft]


class AsyncShop(AsyncUnitOfWork, scopes=[tenant, owner]):
    """The unit, async."""

    countries: AsyncRepository[Country]
    folders: AsyncRepository[Folder]
    notes: AsyncRepository[Note]
    lines: AsyncRepository[Line]
    drafts: AsyncRepository[Draft]


class LineOut(Schema):
    """A line."""

    text: str


class NoteOut(Schema):
    """A note, its folder, and its lines."""

    id: int
    slug: str
    folder_name: Annotated[str | None, From("folder.name")]
    lines: list[LineOut]
    count: Annotated[int, From.count("lines")]
    siblings: Annotated[int, From.count("folder.notes")]


class NoteQuery(ListQuery[Note]):
    """What may be asked of notes."""

    sort = Sort("slug", "stars", default="slug")
    max_size = 100


configure_mappers()


def fill(session: Session) -> None:
    """
    Add for each tenant two folders with three notes each, of which the last is deleted, with three lines each.

    The notes of the two tenants are in turn, and have the same slugs. One note of theirs is in a folder of ours, and
    one line of theirs in a note of ours.
    """
    session.add(Country(id=1, name="Chile"))
    session.flush()
    session.add_all(
        Folder(id=ours + step * 10, tenant_id=ours, name=f"f{step}", country_id=1) for step in (1, 2) for ours in (1, 2)
    )
    session.flush()
    session.execute(update(Folder).where(Folder.id.in_([21, 22])).values(parent_id=Folder.id - 10))
    number = 0
    for step in (1, 2):
        for place in range(3):
            for ours in (OURS, THEIRS):
                number += 1
                _add_note(session, number, ours, f"n{step}{place}", ours + step * 10, deleted=place == 2)
    _add_note(session, 90, THEIRS, "stray", 11, deleted=False)
    session.add(Line(id=9999, tenant_id=THEIRS, text="stray", note_id=1))
    drafts = [(1, OURS, 5, False), (2, OURS, 5, True), (3, OURS, 6, False), (4, OURS, 6, True), (5, THEIRS, 5, True)]
    session.add_all(Draft(id=i, tenant_id=t, owner_id=o, is_public=p) for i, t, o, p in drafts)
    session.commit()


def _add_note(session: Session, number: int, ours: int, slug: str, folder: int, *, deleted: bool) -> None:
    gone = soft_delete.deletion() if deleted else {}
    session.add(Note(id=number, tenant_id=ours, slug=slug, stars=number, folder_id=folder, **gone))
    session.flush()
    for place in range(3):
        gone = soft_delete.deletion() if place == 2 else {}
        session.add(Line(id=number * 10 + place, tenant_id=ours, text=f"{slug}-{ours}-{place}", note_id=number, **gone))
    session.flush()


def all_rows(session: Session, model: Any) -> list[Any]:
    """Return what is stored, whoever it belongs to, by key."""
    table: Table = model.__table__
    return list(session.execute(select(table).order_by(table.c.id)).mappings())
