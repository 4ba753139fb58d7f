"""What a session knows of its database: its dialect, and the keys that cursors are signed with."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session

from fastkit.database.session import GuardedSession
from fastkit.errors import DeclarationError
from fastkit.pages import Signer

SIGNER = "fastkit.signer"
"""Where a plain session keeps it in its `info`."""


def dialect_of(session: Session, model: type[Any]) -> Dialect:
    """Return what SQLAlchemy knows of the kind of database that has the rows of a mapped class."""
    return session.engines.dialect if isinstance(session, GuardedSession) else session.get_bind(model).dialect


def signer_of(session: Session) -> Signer:
    """
    Return what writes and reads the cursors of this database.

    Raises:
        DeclarationError: The database has no keys.
    """
    found = session.engines.signer if isinstance(session, GuardedSession) else session.info.get(SIGNER)
    if not isinstance(found, Signer):
        raise DeclarationError(
            "window() signs its cursors, and this database has no keys: AsyncDatabase(..., cursor_keys=[secret]), with "
            "a secret that secrets.token_urlsafe() made, the same in each process of the app."
        )
    return found
