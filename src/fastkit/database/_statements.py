"""Tell a statement that writes from one that reads."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, Executable, Insert, Select, TextClause, Update
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.selectable import TextualSelect

READS = "fastkit_reads"
"""Execution option that marks a text as one that only reads: `text(...).execution_options(fastkit_reads=True)`."""


def what_it_writes(statement: Executable, execution_options: Any) -> str | None:
    """Return what a statement writes, such as "UPDATE book", or None if it only reads."""
    if type(statement) is Select:
        return None  # nearly always
    if isinstance(statement, FromStatement):
        statement = statement.element
    if isinstance(statement, Insert | Update | Delete):
        return f"{statement.__visit_name__.upper()} {getattr(statement.table, 'name', '')}"
    if isinstance(statement, ExecutableDDLElement):
        return "DDL statement"
    if not isinstance(statement, TextClause | TextualSelect):
        return None
    marked = execution_options.get(READS) or statement.get_execution_options().get(READS)
    return None if marked else "textual statement"
