"""C16: `Retry` says how often, and `Attempts` decides which error may go away if the whole is done again."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import exc as sa

from fastkit.database import Retry
from fastkit.database.retry import Attempts
from fastkit.errors import (
    CannotConnectError,
    CommitUnknownError,
    ConnectionLostError,
    DeadlockError,
    DeclarationError,
    LockTimeoutError,
    PoolTimeoutError,
    SerializationError,
    StaleRowError,
    StatementTimeoutError,
    TransactionDoomedError,
    UniqueError,
)

PATIENT = Retry(attempts=1000, deadline=1000)


def attempts(retry: Retry = PATIENT, *, lock_timeouts: bool = False) -> Attempts:
    return Attempts(retry, lock_timeouts=lock_timeouts)


def is_repeated(error: BaseException, **options: Any) -> bool:
    return attempts(**options).next_pause(error) is not None


@pytest.mark.parametrize("wrong", [0, -1, 1001, 10**9, 1.5, "3", None, float("nan"), float("inf")])
def test_c16_the_number_of_attempts_is_checked(wrong: Any) -> None:
    """No attempt at all, and what is no number, cannot be meant."""
    with pytest.raises(DeclarationError, match="attempts="):
        Retry(attempts=wrong)


@pytest.mark.parametrize("name", ["deadline", "delay", "max_delay"])
@pytest.mark.parametrize("wrong", [0, -0.1, float("nan"), float("-inf"), "1", None, [1]])
def test_c16_times_are_seconds_above_zero(name: str, wrong: Any) -> None:
    """A deadline that has passed before it begins, or a pause of none, cannot be meant."""
    with pytest.raises(DeclarationError, match=f"{name}=.*above zero"):
        Retry(**{name: wrong})


def test_c16_a_retry_is_a_value() -> None:
    """Two of the same are equal, can be keys, cannot be changed, and the times are given by name."""
    assert Retry(3) == Retry(attempts=3)
    assert len({Retry(3), Retry(3), Retry(4)}) == 2
    with pytest.raises(AttributeError):
        Retry().attempts = 5  # type: ignore[misc]  # it is frozen
    with pytest.raises(TypeError):
        Retry(3, 1.0)  # type: ignore[call-arg,misc]  # only the attempts go without a name


@pytest.mark.parametrize("error", [SerializationError("x"), DeadlockError("x")])
def test_c16_a_lost_race_is_repeated(error: BaseException) -> None:
    """Another transaction won, on every database."""
    assert is_repeated(error)


def test_c16_a_lock_timeout_is_repeated_only_where_it_means_busy() -> None:
    """On SQLite it is the sign of another writer; elsewhere somebody holds a lock for too long."""
    assert is_repeated(LockTimeoutError("x"), lock_timeouts=True)
    assert not is_repeated(LockTimeoutError("x"))


@pytest.mark.parametrize(
    "error",
    [
        StaleRowError("x"),
        UniqueError("x"),
        ConnectionLostError("x"),
        CannotConnectError("x"),
        PoolTimeoutError("x"),
        StatementTimeoutError("x"),
        CommitUnknownError("x"),
        TransactionDoomedError("x"),
        ValueError("x"),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
    ],
)
def test_c16_other_errors_are_not_repeated(error: BaseException) -> None:
    """Doing it again would not help, or is not asked for."""
    assert not is_repeated(error, lock_timeouts=True)


def driver_error(code: str) -> sa.DBAPIError:
    """Return what SQLAlchemy makes of an error of psycopg."""
    errors = pytest.importorskip("psycopg").errors
    return sa.DBAPIError("UPDATE book SET stock = 0", {}, errors.lookup(code)("lost"))


def test_c16_an_error_of_the_driver_is_understood() -> None:
    """Code that passes by the unit of work raises what SQLAlchemy made of the driver's error."""
    assert is_repeated(driver_error("40001"))
    assert is_repeated(driver_error("40P01"))
    assert not is_repeated(driver_error("23505"))


LOST = SerializationError("lost")


def by_cause() -> None:
    raise ValueError("wrapped") from LOST


def by_context() -> None:
    try:
        raise LOST
    except SerializationError:
        raise ValueError("wrapped")  # noqa: B904 - the context is what is tested


def hidden() -> None:
    try:
        raise LOST
    except SerializationError:
        raise ValueError("wrapped") from None


def in_a_group() -> None:
    raise ExceptionGroup("several", [ValueError("other"), LOST])


def deep() -> None:
    try:
        in_a_group()
    except ExceptionGroup as error:
        try:
            raise KeyError("a") from error
        except KeyError:
            raise ExceptionGroup("outer", [RuntimeError("x"), TypeError("y")])  # noqa: B904 - same


def doomed() -> None:
    raise TransactionDoomedError("swallowed") from LOST


PLACES = [by_cause, by_context, hidden, in_a_group, deep, doomed]


@pytest.mark.parametrize("place", PLACES)
def test_c16_the_error_is_found_anywhere_in_the_chain(place) -> None:
    """Cause, context, a context that is not shown, members of groups, and all of these together."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - several
        place()

    assert is_repeated(caught.value)


def test_c16_an_unknown_commit_in_the_chain_forbids_it() -> None:
    """Whatever else went wrong: it may be stored already."""
    for error in (CommitUnknownError("x"), ExceptionGroup("x", [CommitUnknownError("x"), LOST])):
        error.__cause__ = LOST
        assert not is_repeated(error)
        wrapped = ValueError("x")
        wrapped.__cause__ = error
        assert not is_repeated(wrapped)


def test_c16_a_chain_in_a_circle_ends() -> None:
    """Chains may be circular; looking for the error ends all the same."""
    one, two = ValueError("1"), ValueError("2")
    one.__context__, two.__context__, two.__cause__ = two, one, one

    assert not is_repeated(one)
    two.__cause__ = LOST
    assert is_repeated(one)


def test_c16_a_cancellation_is_never_repeated() -> None:
    """Also if it arrived while a lost race was being handled: whoever cancelled does not want it done again."""
    for error in (
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        BaseExceptionGroup("x", [KeyboardInterrupt(), LOST]),
    ):
        error.__context__ = LOST
        assert not is_repeated(error), repr(error)


def test_c16_what_was_being_handled_before_does_not_count() -> None:
    """Work that is run where a lost race is handled fails by itself, although Python chains the two."""
    try:
        raise SerializationError("an earlier one, elsewhere")
    except SerializationError:
        counted = attempts()
        try:
            raise ValueError("of the work")
        except ValueError as error:
            pause = counted.next_pause(error)
    assert pause is None


def test_c16_attempts_are_limited() -> None:
    """So many in all, the first included; the last error says how many there were."""
    counted, error = attempts(Retry(attempts=3)), SerializationError("lost")

    assert counted.next_pause(error) is not None
    assert counted.next_pause(error) is not None
    assert counted.next_pause(error) is None
    assert any("3 attempt" in note for note in error.__notes__)


def test_c16_one_attempt_is_no_repetition() -> None:
    """Retry(attempts=1) runs once."""
    assert attempts(Retry(attempts=1)).next_pause(SerializationError("lost")) is None


def test_c16_no_attempt_begins_after_the_deadline(monkeypatch) -> None:
    """Neither now nor after the pause that would have to be made."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    counted = attempts(Retry(attempts=100, deadline=10, delay=1, max_delay=1))

    now[0] += 8.9
    assert counted.next_pause(SerializationError("lost")) == 1
    now[0] += 0.2
    error = SerializationError("lost")
    assert counted.next_pause(error) is None
    assert any("2 attempt" in note and "9.10 s" in note for note in error.__notes__)


def test_c16_the_pause_has_full_jitter(monkeypatch) -> None:
    """Random between zero and a limit that doubles with each attempt, up to the longest."""
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: asked.append((low, high)) or high)
    counted = attempts(Retry(attempts=8, delay=0.1, max_delay=1.0, deadline=100))

    pauses = [counted.next_pause(LOST) for _ in range(7)]

    assert {low for low, _ in asked} == {0}
    assert pauses == [high for _, high in asked]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_c16_pauses_differ() -> None:
    """Those who lost together do not come back together."""
    pauses = [attempts(Retry(delay=1)).next_pause(LOST) for _ in range(20)]

    assert all(pause is not None and 0 <= pause <= 1 for pause in pauses)
    assert any(abs(one - two) > 0.05 for one, two in pairwise(pauses))


def test_c16_a_thousand_attempts_do_not_overflow() -> None:
    """The limit of the pause doubles until the numbers end, not until Python raises."""
    counted = attempts(Retry(attempts=1000, deadline=1e9, delay=1e300, max_delay=0.001))

    pauses = [counted.next_pause(LOST) for _ in range(999)]

    assert all(pause is not None and pause <= 0.001 for pause in pauses)
    assert counted.next_pause(LOST) is None
