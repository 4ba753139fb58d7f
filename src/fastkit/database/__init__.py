"""The database of an app: engine, sessions, time limits, errors in one language."""

from fastkit.database._access import fetched, inserted, locking, pin, reading, scoping_of
from fastkit.database._bulk_writes import all_or_nothing, sent, sent_past_rivals, show_written
from fastkit.database._copy import CopyFault, copy_rows
from fastkit.database._keys import among, of_keys
from fastkit.database._ledger import REQUEST, Request
from fastkit.database._modes import PLAIN, Asked, Isolation, Mode
from fastkit.database._named_locks import hold_lock
from fastkit.database._pins import ANOTHER_VERSION, version_of
from fastkit.database._scope_criteria import ScopeSet
from fastkit.database._scope_writes import OWN_STATEMENT
from fastkit.database._scoping import Scoping
from fastkit.database._signing import dialect_of, signer_of
from fastkit.database._spending import SPENDING, Spending, count_spending
from fastkit.database._statements import READS
from fastkit.database._transaction import NestedRollback, OpenTransaction, doomed_by, place_of_caller
from fastkit.database.database import AsyncDatabase, Database
from fastkit.database.naming import NAMING_CONVENTION
from fastkit.database.retry import Retry
from fastkit.database.session import GuardedSession
from fastkit.database.timeouts import Timeouts

__all__ = [
    "ANOTHER_VERSION",
    "NAMING_CONVENTION",
    "OWN_STATEMENT",
    "PLAIN",
    "READS",
    "REQUEST",
    "SPENDING",
    "Asked",
    "AsyncDatabase",
    "CopyFault",
    "Database",
    "GuardedSession",
    "Isolation",
    "Mode",
    "NestedRollback",
    "OpenTransaction",
    "Request",
    "Retry",
    "ScopeSet",
    "Scoping",
    "Spending",
    "Timeouts",
    "all_or_nothing",
    "among",
    "copy_rows",
    "count_spending",
    "dialect_of",
    "doomed_by",
    "fetched",
    "hold_lock",
    "inserted",
    "locking",
    "of_keys",
    "pin",
    "place_of_caller",
    "reading",
    "scoping_of",
    "sent",
    "sent_past_rivals",
    "show_written",
    "signer_of",
    "version_of",
]
