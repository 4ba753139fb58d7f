"""The database of an app: engine, sessions, time limits, errors in one language."""

from fastkit.database._ledger import REQUEST, Request
from fastkit.database._modes import PLAIN, Asked, Isolation, Mode
from fastkit.database._statements import READS
from fastkit.database._transaction import NestedRollback, OpenTransaction, doomed_by, place_of_caller
from fastkit.database.database import AsyncDatabase, Database
from fastkit.database.naming import NAMING_CONVENTION
from fastkit.database.retry import Retry
from fastkit.database.session import GuardedSession, fetched, locking, reading
from fastkit.database.timeouts import Timeouts

__all__ = [
    "NAMING_CONVENTION",
    "PLAIN",
    "READS",
    "REQUEST",
    "Asked",
    "AsyncDatabase",
    "Database",
    "GuardedSession",
    "Isolation",
    "Mode",
    "NestedRollback",
    "OpenTransaction",
    "Request",
    "Retry",
    "Timeouts",
    "doomed_by",
    "fetched",
    "locking",
    "place_of_caller",
    "reading",
]
