"""Everything that fastkit raises, as one tree that knows no framework.

FastkitError
├── DeclarationError             a class, a route or a setting that can never work; raised at import or start
├── UnitOfWorkError              a unit of work used wrongly; always a bug in the caller
│   ├── UncommittedChangesError      changes would be lost in silence
│   ├── OutsideBlockError            a write or a lock without an open block
│   ├── UnitClosedError              used before its block or after its end
│   ├── ConcurrentUseError           two tasks or threads in one unit
│   ├── BlockMismatchError           a nested block asks for what the open transaction is not
│   ├── ReadOnlyError                a write in a read-only block
│   ├── ScopeError                   a scope without a value, or what would get around one
│   ├── UnflushedChangesError        for_update() on an object that was already changed
│   ├── EventLoopError               handlers answer events with events without end
│   └── TransactionDoomedError       an error was swallowed; nothing more can be committed
├── NotFoundError                no such row
├── MultipleFoundError           more rows than one
├── RowMismatchError             rows of the database do not fit the response model
├── InvalidCursorError           a cursor that was changed, or is of another list
├── RulesBrokenError             business rules, each with its place
├── InvalidValueError            a value that the column or its driver cannot take
├── ConstraintError              a constraint of the database refused the rows
│   ├── UniqueError
│   ├── ForeignKeyError
│   ├── ExclusionError
│   ├── NotNullError
│   └── CheckError
├── ConcurrencyError             lost against another transaction; running the whole block again may succeed
│   ├── SerializationError
│   ├── DeadlockError
│   ├── LockTimeoutError
│   └── StaleRowError
│       └── PreconditionFailedError  a row is not the version that the client has seen (If-Match)
├── PreconditionRequiredError    a change that does not say which version it starts from
├── UnavailableError             the database cannot answer now
│   ├── CannotConnectError
│   ├── ConnectionLostError
│   ├── PoolTimeoutError
│   ├── StatementTimeoutError
│   └── DatabaseClosedError
├── CommitUnknownError           the connection was lost during COMMIT: stored or not, nobody knows
└── HookError                    a hook failed or did not run after the commit, which stands; collected, never raised

Every error carries what a caller needs as attributes; no message and no member holds the values of a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar


class FastkitError(Exception):
    """
    The root of every error that fastkit raises, and of the business errors of an app that wants problem documents.

    A subclass says by class attributes how it looks on the wire: `status`, the HTTP status code from 400 to 599, and
    `title`, the summary that is the same for every occurrence. The message becomes the `detail` only where `public`
    is true.

    Raises:
        DeclarationError: A subclass has another status, or a type that is no absolute URI.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal server error"
    public: ClassVar[bool] = False
    type: ClassVar[str] = ""
    """URI of the kind of problem; empty for one made of the class's name. A subclass with another title has its own."""
    retry_after: ClassVar[int | None] = None
    """Seconds after which a client may try again; the `Retry-After` header."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "status" in vars(cls) and "title" not in vars(cls):
            known = cls.status in {status.value for status in HTTPStatus}
            cls.title = HTTPStatus(cls.status).phrase if known else "Error"
        if "title" in vars(cls) and "type" not in vars(cls):
            cls.type = ""
        _check_problem(cls)

    def members(self) -> Mapping[str, Any]:
        """Return the extension members of the problem document: safe for clients, JSON-serialisable."""
        return {}

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the answer; what only one occurrence knows, such as when to come back, is said here."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def _check_problem(error: type[FastkitError]) -> None:
    status: object = error.status
    if not (isinstance(status, int) and 400 <= status <= 599):  # noqa: PLR2004 - what HTTP calls errors
        raise DeclarationError(f"{error.__name__}.status is {status!r}: an error has a status from 400 to 599.")
    uri: object = error.type
    if not isinstance(uri, str) or (uri and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$", uri)):
        raise DeclarationError(
            f"{error.__name__}.type is {uri!r}, which is no absolute URI: write 'https://example.org/problems/sold-out'."
        )


class DeclarationError(FastkitError):
    """A class, a route or a setting can never work; raised when it is defined or when the app starts."""


class UnitOfWorkError(FastkitError):
    """A unit of work was used in a way that could lose or mix up work."""


class UncommittedChangesError(UnitOfWorkError):
    """
    A block or a request would end with changes that were neither committed nor rolled back.

    Attributes:
        objects: The changed objects that are still alive.
    """

    def __init__(self, message: str, objects: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.objects = tuple(objects)


class OutsideBlockError(UnitOfWorkError):
    """A write was asked for while no block was open."""


class UnitClosedError(UnitOfWorkError):
    """A unit of work was used before its block was opened, or after it had ended."""


class ConcurrentUseError(UnitOfWorkError):
    """A second task or thread used a unit of work that belongs to another, or that is busy."""


class BlockMismatchError(UnitOfWorkError):
    """A nested block asked for an isolation level, a mode or a timeout that the open transaction does not have."""


class ReadOnlyError(UnitOfWorkError):
    """A write was asked for in a read-only block."""


class ScopeError(UnitOfWorkError):
    """
    A scope of a unit of work has no value, or something was asked for that would get around it.

    Attributes:
        scope: The name of the scope.
    """

    def __init__(self, message: str, scope: str) -> None:
        super().__init__(message, scope)
        self.scope = scope

    def __str__(self) -> str:
        return str(self.args[0])


class UnflushedChangesError(UnitOfWorkError):
    """A row was locked after its object had been changed, so the change rests on values read without the lock."""


class EventLoopError(UnitOfWorkError):
    """Handlers answered events with new events, again and again."""


class TransactionDoomedError(UnitOfWorkError):
    """An error inside the transaction was swallowed; it is the `__cause__`, and nothing can be committed any more."""


class NotFoundError(FastkitError):
    """
    No row matches.

    Attributes:
        model: Name of the model that was asked for.
        identity: What was asked for; never part of a message.
    """

    status = 404
    title = "Not found"
    public = True

    def __init__(self, model: str, identity: object = None) -> None:
        super().__init__(model, identity)
        self.model = model
        self.identity = identity

    def __str__(self) -> str:
        return f"No {self.model} matches."


class MultipleFoundError(FastkitError):
    """
    More rows than one match where exactly one was asked for.

    Attributes:
        model: Name of the model that was asked for.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model

    def __str__(self) -> str:
        return f"More than one {self.model} matches: narrow the criteria, or use first() or all()."


class RowMismatchError(FastkitError):
    """
    Rows of the database do not fit the response model that they were read into.

    Attributes:
        reader: What was read, as in "Book into BookOut".
        faults: Place and kind of each fault, without values: `("3.price", "decimal_type")` is about the fourth row.
    """

    def __init__(self, reader: str, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__(reader, tuple(faults))
        self.reader = reader
        self.faults = tuple(faults)

    def __str__(self) -> str:
        told = ", ".join(f"{place} ({kind})" for place, kind in self.faults[:3])
        more = f" and {len(self.faults) - 3} more" if len(self.faults) > 3 else ""  # noqa: PLR2004
        return f"{self.reader}: the rows do not fit the response model, row and field: {told}{more}."


class InvalidCursorError(FastkitError):
    """A cursor was changed, or belongs to a list with another order or other filters."""

    status = 400
    title = "Invalid cursor"
    public = True

    def __str__(self) -> str:
        return "The cursor is not one of this list with this order and these filters: start again without one."


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """
    One rule that was broken.

    Attributes:
        detail: What is wrong, for the person who can change it.
        at: JSON pointer to the place in the request (RFC 6901), or None if it concerns the whole.
    """

    detail: str
    at: str | None = None


class RulesBrokenError(FastkitError):
    """
    Business rules were broken; all of them are told at once.

    Attributes:
        broken: Each rule with its place.
    """

    status = 422
    title = "Rules broken"
    public = True

    def __init__(self, broken: Sequence[BrokenRule]) -> None:
        super().__init__(broken)
        self.broken = tuple(broken)

    def __str__(self) -> str:
        return "; ".join(rule.detail for rule in self.broken)

    def members(self) -> Mapping[str, Any]:
        """Return `errors`, one entry a rule, with `pointer` where the rule has a place."""
        return {
            "errors": [
                {"detail": rule.detail} if rule.at is None else {"detail": rule.detail, "pointer": rule.at}
                for rule in self.broken
            ]
        }


class _DatabaseAnswerError(FastkitError):
    """What the database said, with the table and the columns it was about where they can be known."""

    public = True
    _sentence: str | None = None

    def __init__(
        self,
        message: str,
        *,
        table: str | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.table = table
        self.columns = tuple(columns)

    def members(self) -> Mapping[str, Any]:
        """Return `errors` with a JSON pointer a column, where the columns are known."""
        errors = [{"detail": str(self), "pointer": f"/{column}"} for column in self.columns]
        return {"errors": errors} if errors else {}

    def worded(self, names: Sequence[str]) -> str:
        """Return the message with these names in place of those of the columns: the words of a client."""
        if self._sentence is None:
            return str(self)
        nameless = "A value" if self._sentence.startswith("{") else "value"
        return self._sentence.format(names=" and ".join(names) or nameless)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__


class InvalidValueError(_DatabaseAnswerError):
    """
    A value is too long, out of range, of the wrong type or not representable.

    Attributes:
        table: Name of the table, or None if the driver does not tell.
        columns: Names of the columns, empty if the driver does not tell.
    """

    status = 422
    title = "Invalid value"


class ConstraintError(_DatabaseAnswerError):
    """
    A constraint of the database refused the rows; nothing of the transaction can be committed.

    Attributes:
        constraint: Name of the constraint, or None if the driver does not tell.
        table: Name of the table, or None if the driver does not tell.
        columns: Names of the columns, empty if they cannot be found.
        pointer: What the constraint says of itself by `info={"pointer": "/e-mail"}`, or None.
    """

    status = 409
    title = "Conflict"

    def __init__(
        self,
        message: str,
        *,
        constraint: str | None = None,
        table: str | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        super().__init__(message, table=table, columns=columns)
        self.constraint = constraint
        self.pointer: str | None = None

    def members(self) -> Mapping[str, Any]:
        """Return `errors` with the pointer of the constraint, or with one a column."""
        told = self.pointer
        return super().members() if told is None else {"errors": [{"detail": str(self), "pointer": told}]}


class UniqueError(ConstraintError):
    """A row with the same unique value exists already."""


class ForeignKeyError(ConstraintError):
    """
    A foreign key would point nowhere.

    Attributes:
        side: "child" if the row points to a parent that does not exist, "parent" if rows still point to the row
            that should go, None if the database does not tell (SQLite).
    """

    def __init__(self, message: str, *, side: str | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.side = side

    def members(self) -> Mapping[str, Any]:
        """Return the columns if they are of the row that was sent, and not of rows that point to it."""
        return {} if self.side == "parent" else super().members()


class ExclusionError(ConstraintError):
    """A row that excludes this one exists already (PostgreSQL)."""


class NotNullError(ConstraintError):
    """A required column got no value."""

    status = 422
    title = "Value required"


class CheckError(ConstraintError):
    """A value breaks a check constraint."""

    status = 422
    title = "Invalid value"


class ConcurrencyError(_DatabaseAnswerError):
    """
    The transaction lost against another one; the same block in a new transaction may succeed.

    Attributes:
        retryable: Whether running the whole block again can help.
    """

    status = 409
    title = "Concurrent change"
    retryable: ClassVar[bool] = True


class SerializationError(ConcurrencyError):
    """The isolation level does not allow the result of these concurrent transactions."""


class DeadlockError(ConcurrencyError):
    """The database broke a deadlock by rolling this transaction back."""


class LockTimeoutError(ConcurrencyError):
    """A lock was not granted in time; on SQLite, another connection is writing."""

    status = 503
    title = "Busy"
    retry_after = 1


class StaleRowError(ConcurrencyError):
    """A row that was read was changed or deleted by somebody else before it was written."""

    retryable = False


class PreconditionFailedError(StaleRowError):
    """A row is not the version that the client has seen, so a change that rests on that was not made."""

    status = 412
    title = "Precondition failed"


class PreconditionRequiredError(FastkitError):
    """A change does not say which version of a row it starts from."""

    status = 428
    title = "Precondition required"
    public = True

    def __str__(self) -> str:
        return "Read the row, and send its ETag in the header If-Match with the change."


class UnavailableError(FastkitError):
    """The database cannot answer now; nothing is wrong with the request."""

    status = 503
    title = "Service unavailable"
    retry_after = 5


class CannotConnectError(UnavailableError):
    """No connection to the database server could be made."""


class ConnectionLostError(UnavailableError):
    """The connection broke before COMMIT was sent; nothing was stored."""


class PoolTimeoutError(UnavailableError):
    """No connection became free in time."""


class StatementTimeoutError(UnavailableError):
    """A statement ran longer than its time limit and was stopped."""


class DatabaseClosedError(UnavailableError):
    """The database object was closed; the app is shutting down."""


class CommitUnknownError(FastkitError):
    """The connection was lost, or the deadline passed, while COMMIT was under way: stored or not, nobody knows."""

    status = 503
    title = "Outcome unknown"


class HookError(FastkitError):
    """
    A hook failed, took too long or did not run after a commit, which stands; collected in `Outcome.hook_errors`.

    Attributes:
        hook: The name of the hook.
    """

    def __init__(self, message: str, hook: str = "") -> None:
        super().__init__(message)
        self.hook = hook

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.hook), self.__dict__
