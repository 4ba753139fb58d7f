"""Tell a statement that writes from one that reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Delete, Executable, Insert, Select, TextClause, Update
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.lambdas import StatementLambdaElement
from sqlalchemy.sql.selectable import TextualSelect

READS = "fastkit_reads"
"""Execution option that marks a text as one that only reads: `text(...).execution_options(fastkit_reads=True)`."""


def what_it_writes(statement: Any, execution_options: Mapping[str, Any]) -> str | None:
    """Return what a statement writes, such as "UPDATE book", or None if it only reads."""
    if type(statement) is Select:
        return None  # nearly always
    marked = bool(execution_options.get(READS))
    while True:
        if isinstance(statement, StatementLambdaElement):
            statement = statement._resolved  # noqa: SLF001 - what it will run as
        marked = marked or is_marked(statement)
        if not isinstance(statement, FromStatement):
            break
        statement = statement.element
    if isinstance(statement, Insert | Update | Delete):
        return f"{statement.__visit_name__.upper()} {getattr(statement.table, 'name', '')}"
    if isinstance(statement, ExecutableDDLElement):
        return "DDL statement"
    return "textual statement" if is_text(statement) and not marked else None


_BEFORE = r"(?:\s|/\*(?!M?!).*?\*/|--[^\n]*\n|#[^\n]*\n|;)*"
_ENDS = re.compile(
    _BEFORE + r"(COMMIT|ROLLBACK(?!\s+TO)|ABORT|END|BEGIN|START\s+TRANSACTION)\b", re.IGNORECASE | re.DOTALL
)
_ENDS_ON_MARIADB = re.compile(
    _BEFORE + r"(CREATE(?!\s+TEMPORARY)|ALTER|DROP(?!\s+TEMPORARY)|TRUNCATE|RENAME|LOCK\s+TABLES|GRANT|REVOKE"
    r"|ANALYZE\s+(?:\w+\s+)?TABLE|CHECK\s+TABLE|OPTIMIZE|REPAIR|FLUSH|UNLOCK|CACHE\s+INDEX|LOAD\s+INDEX|SET\s+(?:SESSION\s+|@@(?:session\.)?)?AUTOCOMMIT)\b",
    re.IGNORECASE | re.DOTALL,
)


def what_it_ends(statement: Any, dialect_name: str) -> str | None:
    """
    Return the word with which a text ends the open transaction behind the back of its unit, or None.

    Source: mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit.
    """
    sql = str(statement.element if isinstance(statement, TextualSelect) else statement)
    found = _ENDS.match(sql) or (_ENDS_ON_MARIADB.match(sql) if dialect_name in {"mariadb", "mysql"} else None)
    return found[1].upper() if found else None


def is_text(statement: object) -> bool:
    """Return whether nobody but its author knows what a statement does."""
    return isinstance(statement, TextClause | TextualSelect)


def is_marked(statement: Executable) -> bool:
    """Return whether a statement, or the text in it, says that it only reads."""
    inner = getattr(statement, "element", None) if isinstance(statement, TextualSelect) else None
    return any(each.get_execution_options().get(READS) for each in (statement, inner) if each is not None)


def is_several(options: Mapping[str, Any]) -> bool:
    """Return whether a result is fetched bit by bit, which needs a transaction."""
    loads = options.get("_sa_orm_load_options")
    of_query = loads is not None and loads._yield_per  # noqa: SLF001 - no public word
    return bool(of_query or options.get("stream_results") or options.get("yield_per"))


def is_refresh(options: Mapping[str, Any]) -> bool:
    """Return whether SQLAlchemy itself loads what an object of the session lacks."""
    loads = options.get("_sa_orm_load_options")
    return loads is not None and bool(loads._refresh_state)  # noqa: SLF001 - no public word
