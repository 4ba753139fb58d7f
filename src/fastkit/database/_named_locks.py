"""Locks on names: what a block asks its database for, and what it says if it does not get it."""

from __future__ import annotations

from fastkit.database.session import GuardedSession
from fastkit.errors import DeclarationError, LockTimeoutError, ReadOnlyError

LONGEST_WAIT = 86_400
"""Seconds."""


def hold_lock(session: GuardedSession, name: str, seconds: float | None) -> None:
    """
    Hold a lock on a name until the open block ends.

    Args:
        session: The session of the block.
        name: Any text.
        seconds: How long to wait for it, or None for the lock limit of the `Database`.

    Raises:
        DeclarationError: It is no name, or no number of seconds.
        ReadOnlyError: The block is read-only.
        LockTimeoutError: Somebody else holds it; the block is doomed, on every database alike.
    """
    _check(name, seconds)
    transaction = session.transaction_for("lock()")
    if transaction.mode.read_only:
        raise ReadOnlyError(
            f"lock({name!r}): this block is read-only, and a replica may serve it, where the lock would keep nobody "
            "out. Open a block without read_only=True."
        )
    refusal = LockTimeoutError(_told(name, session.engines.timeouts.lock if seconds is None else seconds))
    try:
        given = session.ask_for_lock(name, seconds)
    except LockTimeoutError as error:
        transaction.doom_said_better(refusal, error)
        raise refusal from error
    if not given:
        transaction.doom(refusal)
        raise refusal
    session.read_afresh()


def _told(name: str, seconds: float) -> str:
    waited = f"did not end within {seconds:g} s" if seconds else "is open, and this one was not to wait"
    return (
        f"lock({name!r}) was not given: another block that holds it {waited}. "
        "Run the whole block again, or wait longer, lock(..., timeout=...)."
    )


def _check(name: object, seconds: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(f"lock() takes a name, such as 'invoice-numbers', not {name!r}.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DeclarationError(f"lock({name!r}): a part of this name is no character.") from None
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_WAIT:
        raise DeclarationError(f"lock(timeout={seconds!r}): it is 0 to {LONGEST_WAIT} seconds; 0 does not wait.")
