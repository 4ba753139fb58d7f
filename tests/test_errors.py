"""The tree of errors: drawn as it is, carried whole across processes, quiet about values."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from fastkit import errors
from fastkit.errors import (
    BrokenRule,
    CannotConnectError,
    CheckError,
    CommitUnknownError,
    ConcurrencyError,
    ConnectionLostError,
    ConstraintError,
    DatabaseClosedError,
    DeadlockError,
    ExclusionError,
    FastkitError,
    ForeignKeyError,
    InvalidValueError,
    LockTimeoutError,
    MultipleFoundError,
    NotFoundError,
    NotNullError,
    PoolTimeoutError,
    RowMismatchError,
    RulesBrokenError,
    ScopeError,
    SerializationError,
    StaleRowError,
    StatementTimeoutError,
    UncommittedChangesError,
    UniqueError,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, FastkitError) and value.__module__ == errors.__name__
]
PUBLIC = [kind for kind in CLASSES if not kind.__name__.startswith("_")]
SPECIAL: dict[type[FastkitError], FastkitError] = {
    NotFoundError: NotFoundError("Book", (7, 1)),
    MultipleFoundError: MultipleFoundError("Book"),
    RowMismatchError: RowMismatchError("Book into BookOut", [("0.price", "decimal_type")]),
    RulesBrokenError: RulesBrokenError([BrokenRule("must be positive", "/quantity"), BrokenRule("is blocked")]),
    ScopeError: ScopeError("Nobody has said whose.", "tenant"),
    UncommittedChangesError: UncommittedChangesError("1 x Book", ["an object"]),
    ForeignKeyError: ForeignKeyError("Gone", side="child", constraint="fk", table="book", columns=["author_id"]),
    InvalidValueError: InvalidValueError("Too long", table="book", columns=["title"]),
    **{
        kind: kind("Exists", constraint="uq_book_sku", table="book", columns=["sku"])
        for kind in (ConstraintError, UniqueError, ExclusionError, NotNullError, CheckError)
    },
}
EXAMPLES = [SPECIAL.get(kind) or kind("What happened.") for kind in PUBLIC]


def drawn() -> dict[str, str]:
    """Return each class of the drawing with the name of its parent."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w*Error)\b", line)
        if found:
            depth = len(found["branch"]) // 4
            path[depth:] = [found["name"]]
            parents[found["name"]] = path[depth - 1] if depth else ""
    return parents


def public_parent(kind: type[Any]) -> str:
    """Return the name of the nearest public parent."""
    return next((base.__name__ for base in kind.__mro__[1:] if base in PUBLIC), "")


class TestTree:
    """The drawing at the top of the file."""

    def test_it_shows_every_class_under_its_parent(self) -> None:
        """A new error is drawn, a moved one moves."""
        assert drawn() == {kind.__name__: public_parent(kind) for kind in PUBLIC}

    def test_every_name_ends_in_error_and_every_class_says_what_it_is(self) -> None:
        """The house style."""
        for kind in PUBLIC:
            assert kind.__name__.endswith("Error")
            assert kind.__doc__


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
class TestEach:
    """What holds for every error."""

    @pytest.mark.parametrize(
        "duplicate",
        [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
        ids=["pickle", "copy", "deep"],
    )
    def test_it_is_carried_whole(self, error: FastkitError, duplicate: Any) -> None:
        """A worker hands it to its parent with its type, its words, its data and its notes."""
        error.add_note("a note")
        again = duplicate(error)

        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert again.args == error.args
        assert again.members() == error.members()

    def test_it_has_words(self, error: FastkitError) -> None:
        """No error is silent, and its repr names it."""
        assert str(error).strip()
        assert type(error).__name__ in repr(error)

    def test_members_are_json(self, error: FastkitError) -> None:
        """They are extension members of a problem document."""
        import json

        assert json.loads(json.dumps(error.members())) == error.members()
        assert not {"type", "title", "status", "detail", "instance"} & set(error.members())

    def test_the_status_is_one_of_http(self, error: FastkitError) -> None:
        """A status of the client's or the server's; only an internal error may be without words for the client."""
        assert 400 <= error.status <= 599
        assert error.title
        assert error.public or error.status >= 500


class TestStatus:
    """What each error is on the wire."""

    @pytest.mark.parametrize(
        ("kind", "status", "public", "retry_after"),
        [
            (errors.DeclarationError, 500, False, None),
            (errors.UnitOfWorkError, 500, False, None),
            (UncommittedChangesError, 500, False, None),
            (errors.TransactionDoomedError, 500, False, None),
            (NotFoundError, 404, True, None),
            (MultipleFoundError, 500, False, None),
            (RowMismatchError, 500, False, None),
            (errors.InvalidCursorError, 400, True, None),
            (RulesBrokenError, 422, True, None),
            (InvalidValueError, 422, True, None),
            (ConstraintError, 409, True, None),
            (UniqueError, 409, True, None),
            (ForeignKeyError, 409, True, None),
            (ExclusionError, 409, True, None),
            (NotNullError, 422, True, None),
            (CheckError, 422, True, None),
            (ConcurrencyError, 409, True, None),
            (SerializationError, 409, True, None),
            (DeadlockError, 409, True, None),
            (LockTimeoutError, 503, True, 1),
            (StaleRowError, 409, True, None),
            (CannotConnectError, 503, False, 5),
            (ConnectionLostError, 503, False, 5),
            (PoolTimeoutError, 503, False, 5),
            (StatementTimeoutError, 503, False, 5),
            (DatabaseClosedError, 503, False, 5),
            (CommitUnknownError, 503, False, None),
        ],
    )
    def test_each_kind(self, kind: type[FastkitError], status: int, public: bool, retry_after: int | None) -> None:
        """Status, whether a client may read the message, and when to come back: never after an unknown commit."""
        assert (kind.status, kind.public, kind.retry_after) == (status, public, retry_after)

    def test_only_what_may_succeed_is_retryable(self) -> None:
        """A stale row stays stale."""
        retryable = {kind for kind in PUBLIC if getattr(kind, "retryable", False)}

        assert retryable == {ConcurrencyError, SerializationError, DeadlockError, LockTimeoutError}


class TestData:
    """What errors carry, and what they keep to themselves."""

    def test_not_found_hides_the_identity_from_its_message(self) -> None:
        """The model is told, the key is on the error."""
        error = NotFoundError("Book", "secret")

        assert str(error) == "No Book matches."
        assert (error.model, error.identity) == ("Book", "secret")

    def test_multiple_found_says_what_to_do(self) -> None:
        """The remedy is in the message."""
        assert str(MultipleFoundError("Book")) == (
            "More than one Book matches: narrow the criteria, or use first() or all()."
        )

    def test_rules_are_told_with_their_places(self) -> None:
        """Each rule, in order; a pointer only where there is a place."""
        error = SPECIAL[RulesBrokenError]

        assert str(error) == "must be positive; is blocked"
        assert error.members() == {
            "errors": [{"detail": "must be positive", "pointer": "/quantity"}, {"detail": "is blocked"}]
        }

    def test_a_constraint_points_to_its_columns(self) -> None:
        """One entry for each column; none where no column is known."""
        known = UniqueError("Exists", constraint="uq", table="book", columns=["author_id", "title"])
        unknown = UniqueError("Exists")

        assert [entry["pointer"] for entry in known.members()["errors"]] == ["/author_id", "/title"]
        assert unknown.members() == {}
        assert (unknown.constraint, unknown.table, unknown.columns) == (None, None, ())

    def test_objects_of_a_lost_change_are_kept_as_they_are(self) -> None:
        """The caller can look at them."""
        book = object()
        error = UncommittedChangesError("lost", [book])

        assert error.objects == (book,)
        assert error.objects[0] is book

    def test_an_app_makes_errors_of_its_own(self) -> None:
        """By class attributes, as the docstring says."""

        class OutOfStockError(FastkitError):
            """Nothing left."""

            status = 409
            title = "Out of stock"
            public = True

        assert (OutOfStockError("gone").status, OutOfStockError("gone").members()) == (409, {})
