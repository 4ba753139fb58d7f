"""The database of an app: engine, sessions, time limits, errors in one language."""

from fastkit.database._modes import Isolation, Mode
from fastkit.database._statements import READS
from fastkit.database._transaction import NestedRollback
from fastkit.database.database import AsyncDatabase, Database
from fastkit.database.naming import NAMING_CONVENTION
from fastkit.database.session import GuardedSession, locking, reading
from fastkit.database.timeouts import Timeouts

__all__ = [
    "NAMING_CONVENTION",
    "READS",
    "AsyncDatabase",
    "Database",
    "GuardedSession",
    "Isolation",
    "Mode",
    "NestedRollback",
    "Timeouts",
    "locking",
    "reading",
]
