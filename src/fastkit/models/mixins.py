"""Columns that many models have, to be inherited by choice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import DateTime, inspect
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, Mapper, has_inherited_table, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from fastkit.errors import DeclarationError
from fastkit.models.scopes import Scope

_LAST = 9000  # sort_order: behind the columns of the model itself


class UtcDateTime(TypeDecorator[datetime]):
    """
    A moment, aware and in UTC on every database, to the microsecond.

    SQLite and MariaDB keep no time zones, and MariaDB's DATETIME drops fractions unless told otherwise. A datetime
    without a time zone is refused: nobody knows which moment it is.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the database."""
        if dialect.name in {"mariadb", "mysql"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the database keeps it."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone is no moment: use datetime.now(UTC)")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)


def _when_created(context: Any) -> datetime:
    """Return the moment at which the row of this statement was created, so that both are the same at first."""
    created = context.get_current_parameters(isolate_multiinsert_groups=True).get("created_at")
    return created if isinstance(created, datetime) else now()


class Timestamps:
    """
    When a row was added, and when it was last changed; written by objects and bulk work alike.

    >>> class Book(Timestamps, Base): ...
    """

    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, sort_order=_LAST)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_when_created, onupdate=now, sort_order=_LAST + 1)


class Versioned:
    """
    A count of the changes of each row, which SQLAlchemy compares with every UPDATE and DELETE of an object.

    >>> class Book(Versioned, Base): ...

    Whoever writes on a version that somebody else has changed meanwhile gets `StaleRowError`, and overwrites nothing.
    Routes tell the version as an ETag and take it back by If-Match.
    """

    version: Mapped[int] = mapped_column(default=1, sort_order=_LAST + 3)  # for inserts by Core

    __mapper_args__: Any = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own

    def __init_subclass__(cls, **options: Any) -> None:
        """Add the version to what the class says of its mapper."""
        own = vars(cls).get("__mapper_args__")
        if isinstance(own, dict) and not has_inherited_table(cls):
            cls.__mapper_args__ = {"version_id_col": vars(Versioned)["version"], **own}
        elif own is None and has_inherited_table(cls):
            cls.__mapper_args__ = {}  # not those of the mixin: the version is in the table of the parent
        super().__init_subclass__(**options)
        mapper = inspect(cls, raiseerr=False)
        if isinstance(mapper, Mapper) and mapper.version_id_col is None:
            raise DeclarationError(
                f"{cls.__name__} has the column of Versioned, but its __mapper_args__ do not say so: inherit from "
                "Versioned before the declarative base, or name it there, as version_id_col."
            )


class SoftDelete:
    """
    Rows that are hidden instead of deleted.

    >>> class Book(SoftDelete, Base): ...

    In every unit of work `delete()` writes `deleted_at`, and such a row is there no more for any read, bulk write or
    relationship. `with shop.unscoped(soft_delete, reason="...")` shows them, and there a delete is final.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None, sort_order=_LAST + 2)


class _SoftDeletion(Scope[None]):
    """The scope of the rows that are not deleted."""

    def deletion(self) -> Mapping[str, Any]:
        """Return the moment, which marks a row as deleted."""
        return {"deleted_at": now()}


soft_delete: Final = _SoftDeletion(
    "soft_delete", where=lambda model, _: model.deleted_at.is_(None), models=[SoftDelete], value=None
)
"""The scope that every unit of work has whose models have `SoftDelete`."""
