"""
One language for the errors of seven drivers.

A code decides. The class that SQLAlchemy chose does not, because asyncpg has one class for most faults, and
the words of a server do not, because they are translated and hold the values of rows.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy import exc as sa
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.schema import ColumnCollectionConstraint

from fastkit.database._diagnostics import Diagnosis, Kind, coded, diagnose, driver_error
from fastkit.database._places import Rule, locate
from fastkit.errors import (
    CannotConnectError,
    CheckError,
    ConcurrencyError,
    ConnectionLostError,
    ConstraintError,
    DeadlockError,
    ExclusionError,
    FastkitError,
    ForeignKeyError,
    InvalidValueError,
    LockTimeoutError,
    NotNullError,
    PoolTimeoutError,
    ReadOnlyError,
    SerializationError,
    StaleRowError,
    StatementTimeoutError,
    UnavailableError,
    UniqueError,
)

_RULES: dict[Kind, tuple[type[Rule], ...]] = {
    UniqueError: (UniqueConstraint, PrimaryKeyConstraint, Index),
    ForeignKeyError: (ForeignKeyConstraint,),
    CheckError: (CheckConstraint,),
    ExclusionError: (ColumnCollectionConstraint,),
}
_SENTENCES: dict[Kind, str] = {
    ConcurrencyError: "The tables were changed while this statement was in use; try again.",
    SerializationError: "Somebody else changed the same data at the same time; try again.",
    DeadlockError: "Two changes waited for each other, and this one was given up; try again.",
    LockTimeoutError: "Somebody else is changing the same data and did not finish in time; try again.",
    StaleRowError: "The row was changed or deleted by somebody else; read it again and repeat the change.",
    CannotConnectError: (
        "No connection to the database could be made; check that it runs, that it takes more connections, and"
        " that its URL and credentials are right. The cause says which."
    ),
    ConnectionLostError: "The connection to the database was lost; run the whole block again on a new one.",
    PoolTimeoutError: (
        "No connection became free in time; look for blocks that stay open too long, or raise pool_size"
        " of the Database."
    ),
    StatementTimeoutError: "A statement ran longer than its time limit; make it faster, or raise the limit.",
    UnavailableError: "The database ran out of disk, memory or another resource; the cause says which.",
    ReadOnlyError: "A write was asked for where only reads are allowed; use a block that may write.",
}
_ROW_SENTENCES: dict[Kind | str, str] = {
    UniqueError: "Another {row} with the same {names} exists already.",
    ExclusionError: "Another {row} exists already that excludes this one by its {names}.",
    NotNullError: "{place} is required.",
    CheckError: "{place} breaks {rule}.",
    ConstraintError: "{place} breaks {rule}.",
    InvalidValueError: "{place} {reason}.",
    ForeignKeyError: "A row that is referred to does not exist, or is about to go.",
    "child": "The {names} of {row} {refers} to a row that does not exist.",
    "parent": "The {names} of {row} still {refers} to the row.",
}
_TOO_LONG = "is too long"
_OUT_OF_RANGE = "is out of range"
_BAD_CHARACTER = "has a character that the database cannot store"
_BAD_FORM = "has a form that the database cannot store"
_REASONS = {
    **dict.fromkeys(("22001", "54000", "1153", "1406", "18"), _TOO_LONG),
    **dict.fromkeys(("22003", "22008", "1264", "1690"), _OUT_OF_RANGE),
    **dict.fromkeys(("22021", "22P05", "1300"), _BAD_CHARACTER),
}


def translate(error: BaseException, metadata: Sequence[MetaData] = ()) -> FastkitError | None:
    """
    Return the error of fastkit for what an engine or a session raised, or None if there is none for it.

    A bug of the app (a missing table, wrong SQL, its own exceptions) has none, and stays what it is.

    Args:
        error: What was raised, with its traceback.
        metadata: The tables of the app, in which the columns of a constraint are found.
    """
    if isinstance(error, sa.DBAPIError):
        return _from_driver(error, metadata) or _from_savepoint(error, metadata)
    if isinstance(error, sa.TimeoutError):
        return PoolTimeoutError(_SENTENCES[PoolTimeoutError])
    if isinstance(error, StaleDataError):
        table = re.search(r"on table '([^']+)'", str(error))
        return StaleRowError(_SENTENCES[StaleRowError], table=table[1] if table else None)
    if isinstance(error, sa.StatementError):
        return _from_binding(error)
    return None if isinstance(error, sa.SQLAlchemyError) else _from_bare(error)


def _from_driver(error: sa.DBAPIError, metadata: Sequence[MetaData]) -> FastkitError | None:
    said = diagnose(error)
    kind = _kind(error, said)
    if kind is None:
        return None
    if issubclass(kind, ConstraintError | InvalidValueError):
        said = locate(said, _RULES.get(kind, ()), metadata, error.statement)
        return _about_rows(kind, said, driver_error(error).__cause__)
    return kind(_SENTENCES[kind])


def _kind(error: sa.DBAPIError, said: Diagnosis) -> Kind | None:
    kind = coded(said) if said.codes else _uncoded(error)
    if error.connection_invalidated:  # wins over every code: a broken connection says nothing about the rows
        kind = ConnectionLostError
    if "connect" in _phases(error) and kind in {None, ConnectionLostError}:
        # A refused login has no code in psycopg; a database that does not exist shares its code in MariaDB.
        refused = isinstance(error, sa.OperationalError) or kind is not None
        return CannotConnectError if refused else None
    return kind


# What drivers say before they send anything; none of them translates it.
_CLOSED = re.compile(r"\b(?:closed|lost|no active connection)\b")
_NOT_BOUND = re.compile(r"^(?:Error binding parameter|cannot adapt type|(?:nan|-?inf) can not be used)")


def _uncoded(error: sa.DBAPIError) -> Kind | None:
    message = str(driver_error(error))
    if isinstance(error, sa.InterfaceError | sa.OperationalError) and _CLOSED.search(message):
        return ConnectionLostError
    # psycopg raises DataError for a value that it cannot send, in `execute`, and for one that it cannot read.
    is_sending = (error.statement or "").startswith("COPY ") or "execute" in _phases(error)
    is_value = isinstance(error, sa.DataError) and is_sending
    return InvalidValueError if is_value or _NOT_BOUND.match(message) else None


def _from_savepoint(error: sa.DBAPIError, metadata: Sequence[MetaData]) -> FastkitError | None:
    # A deadlock on MariaDB and a full disk on SQLite end the transaction with its savepoints. The rollback to
    # such a savepoint fails too, and what really happened is found only behind that.
    if not (error.statement or "").startswith("ROLLBACK TO SAVEPOINT"):
        return None
    earlier = (each for each in _chain(error) if isinstance(each, sa.DBAPIError))
    return next(filter(None, (_from_driver(each, metadata) for each in earlier)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    while (before := error.__cause__ or error.__context__) is not None and id(before) not in seen:
        seen.add(id(before))
        yield (error := before)


# SQLAlchemy wraps foreign errors in a StatementError while it prepares a statement, and not at all while the
# driver runs it. They mean a value that no driver can take, or a bug of the app: where they were raised tells
# which. Code of the app between SQLAlchemy and the wire (the processor of a type, the serialiser of JSON)
# works on a value, so its errors are about that value. The default of a column makes a value, so its errors
# are bugs.
_BINDING_FAULTS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
_DRIVER_FAULTS = (TypeError, ValueError, ArithmeticError)
_PHASES = {"__connect": "connect", "_process_execute_defaults": "default", "do_commit": "commit"}


def _phases(error: BaseException) -> set[str]:
    """Return which parts of SQLAlchemy the error came through; empty if it did not come through any."""
    names = [
        frame.f_code.co_name
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").startswith("sqlalchemy.")
    ]
    return {"execute" if name.startswith("do_execute") else _PHASES.get(name, "") for name in names} - {""}


def _from_binding(error: sa.StatementError) -> FastkitError | None:
    if isinstance(error.orig, OSError) and "connect" in _phases(error):
        return CannotConnectError(_SENTENCES[CannotConnectError])
    if not isinstance(error.orig, _BINDING_FAULTS) or "default" in _phases(error):
        return None
    return _about_rows(InvalidValueError, Diagnosis(), error.orig)


def _from_bare(error: BaseException) -> FastkitError | None:
    phases = _phases(error)
    kind: Kind | None = None
    if phases & {"execute", "commit"}:
        kind = _bare_kind(error)
    elif "connect" in phases and isinstance(error, OSError):
        kind = CannotConnectError
    if kind is InvalidValueError:
        return _about_rows(kind, Diagnosis(), error)
    return kind(_SENTENCES[kind]) if kind else None


def _bare_kind(error: BaseException) -> Kind | None:
    if isinstance(error, TimeoutError):  # the `command_timeout` of asyncpg
        return StatementTimeoutError
    if isinstance(error, OSError | EOFError):
        return ConnectionLostError
    *_, last = traceback.walk_tb(error.__traceback__)
    # asyncmy formats the SQL of exec_driver_sql() with `%`: too few parameters are a bug of the app.
    is_format = last[0].f_code.co_name.endswith("mogrify")
    is_read = isinstance(error, UnicodeDecodeError)
    return InvalidValueError if isinstance(error, _DRIVER_FAULTS) and not is_format and not is_read else None


def _about_rows(kind: Kind, said: Diagnosis, cause: BaseException | None) -> FastkitError:
    where: dict[str, Any] = {"table": said.table, "columns": said.columns}
    if kind is not InvalidValueError:
        where["constraint"] = said.constraint
    if kind is ForeignKeyError:
        where["side"] = said.side
    error: Any = kind("", **where)
    error._sentence = _sentence(kind, said, cause)  # noqa: SLF001 - who answers a client puts in its own names
    error.args = (error.worded(said.columns),)
    if not said.columns or said.side == "parent":
        error._sentence = None  # noqa: SLF001 - nothing that a client sent
    return _told(error, said.info)


def _told(error: Any, info: Mapping[Any, Any]) -> FastkitError:
    """Return the error as its constraint wants it told."""
    detail, pointer = info.get("detail"), info.get("pointer")
    if detail is not None:
        error.args, error._sentence = (str(detail),), None  # noqa: SLF001
    if pointer is not None:
        error.pointer = str(pointer)
    told: FastkitError = error
    return told


def _sentence(kind: Kind, said: Diagnosis, cause: BaseException | None) -> str:
    """Return what happened, with `{names}` for the names of the columns."""
    sentence = _ROW_SENTENCES[said.side or kind].format(
        row=said.table or "row",
        names="\0",
        place="\0" + (f" of {said.table}" if said.table else ""),
        rule=f"the rule {said.constraint}" if said.constraint else "a rule of the database",
        reason=_reason(said, cause),
        refers="refer" if len(said.columns) > 1 else "refers",
    )
    return sentence.replace("{", "{{").replace("}", "}}").replace("\0", "{names}")


def _reason(said: Diagnosis, cause: BaseException | None) -> str:
    coded = [_REASONS[code] for code in map(str, said.codes) if code in _REASONS]
    if coded:
        return coded[0]
    if isinstance(cause, UnicodeError):
        return _BAD_CHARACTER
    return _OUT_OF_RANGE if isinstance(cause, OverflowError) else _BAD_FORM
