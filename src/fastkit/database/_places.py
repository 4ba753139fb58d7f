"""What a driver did not say and the metadata knows: the table of a constraint, its columns, its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import (
    CheckConstraint,
    Constraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
)
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import ColumnCollectionConstraint, PrimaryKeyConstraint

from fastkit.database._diagnostics import Diagnosis

Rule = Constraint | Index

_NAMES = {
    # Long names from a naming convention are cut by SQLAlchemy itself, differently for each length limit.
    "postgresql": DefaultDialect(max_identifier_length=63).identifier_preparer,
    "mariadb": DefaultDialect(max_identifier_length=64).identifier_preparer,
    "sqlite": DefaultDialect().identifier_preparer,
}
_WRITTEN = re.compile(
    r"\s*(?:INSERT\s+(?:IGNORE\s+|OR\s+\w+\s+)?INTO|REPLACE\s+INTO|UPDATE|DELETE\s+FROM)\s+"
    r"(?:[`\"]?(?P<schema>[\w$]+)[`\"]?\.)?[`\"]?(?P<table>[\w$]+)",
    re.IGNORECASE,
)
_POSTGRESQL_SUFFIXES: dict[type[Rule], str] = {
    UniqueConstraint: "key",
    ForeignKeyConstraint: "fkey",
    PrimaryKeyConstraint: "pkey",
    CheckConstraint: "check",
}
_STRING = re.compile(r"'[^']*'")
_WORD = re.compile(r"\w+")


def locate(
    said: Diagnosis, kinds: tuple[type[Rule], ...], metadata: Sequence[MetaData], statement: str | None
) -> Diagnosis:
    """
    Return `said` with the constraint, table and columns that only the metadata knows.

    Args:
        said: What the driver said.
        kinds: The kinds of constraint that can be meant; empty if the fault is about columns alone.
        metadata: The tables of the app.
        statement: The SQL that failed. It only chooses among the tables that fit, since a trigger may fail in
            another table than the one that the statement writes to.
    """
    tables = _candidates(said, metadata)
    near = tables if said.table else _written(tables, statement)
    if not kinds:
        return _with_table(said, near)
    # A name that the server made up ('PRIMARY') fits many tables, so it counts only in the one written to.
    return _found(said, kinds, near, usual=True) or _found(said, kinds, tables, usual=False) or _named(said)


def _candidates(said: Diagnosis, metadata: Sequence[MetaData]) -> list[Table]:
    tables = [table for each in metadata for table in each.tables.values()]
    if not said.table:
        return tables
    same = [table for table in tables if table.name == said.table]
    # Its schema, else the default schema, else the only one there is: a schema translation renames schemas.
    exact = [table for table in same if said.schema and table.schema == said.schema]
    return exact or [table for table in same if table.schema is None] or (same if len(same) == 1 else [])


def _written(tables: Sequence[Table], statement: str | None) -> list[Table]:
    written = _WRITTEN.match(statement or "")
    place = (written["schema"], written["table"]) if written else None
    return [table for table in tables if (table.schema, table.name) == place]


def _with_table(said: Diagnosis, near: Sequence[Table]) -> Diagnosis:
    fits = [table for table in near if said.columns and {*said.columns} <= {column.name for column in table.columns}]
    return replace(said, table=fits[0].name) if len(fits) == 1 else said


def _found(said: Diagnosis, kinds: tuple[type[Rule], ...], tables: Sequence[Table], *, usual: bool) -> Diagnosis | None:
    hits = [
        (table, rule)
        for table in tables
        for rule in _rules(table)
        if isinstance(rule, kinds) and _is_meant(rule, table, said, usual=usual)
    ]
    if len(hits) != 1:  # two rules with one name: nobody knows which one is meant
        return None
    table, rule = hits[0]
    constraint, columns = _name(rule, said) or said.constraint, said.columns or _columns(rule, table)
    return _named(replace(said, constraint=constraint, table=table.name, columns=columns, info=rule.info))


def _rules(table: Table) -> Iterator[Rule]:
    yield from table.constraints
    yield from (index for index in table.indexes if index.unique)
    for column in table.columns:
        yield from column.constraints


def _is_meant(rule: Rule, table: Table, said: Diagnosis, *, usual: bool) -> bool:
    if said.constraint is None:  # SQLite names the columns of a unique constraint, never the constraint
        return bool(said.columns) and _columns(rule, table) == said.columns
    return said.constraint == (_name(rule, said) or (_usual_name(rule, table, said) if usual else None))


def _name(rule: Rule, said: Diagnosis) -> str | None:
    if rule.name is None or said.family is None:
        return None
    if said.family == "mariadb" and isinstance(rule, PrimaryKeyConstraint):
        return None  # the server drops the name and says 'PRIMARY'
    try:
        name = _NAMES[said.family].format_constraint(rule)
    except SQLAlchemyError:  # a name that this database could not have, from the tables of another one
        return None
    return name.strip('"') if name else None


def _usual_name(rule: Rule, table: Table, said: Diagnosis) -> str | None:
    """Return the name that the server makes up for a rule without one."""
    columns = _columns(rule, table)
    if said.family == "postgresql":
        suffix = next((end for kind, end in _POSTGRESQL_SUFFIXES.items() if isinstance(rule, kind)), "excl")
        told = () if suffix == "pkey" or (suffix == "check" and len(columns) != 1) else columns
        return "_".join((table.name, *told, suffix))
    if said.family == "mariadb":
        return "PRIMARY" if isinstance(rule, PrimaryKeyConstraint) else next(iter(columns), None)
    return str(rule.sqltext) if isinstance(rule, CheckConstraint) else None


def _columns(rule: Rule, table: Table) -> tuple[str, ...]:
    if isinstance(rule, CheckConstraint):  # one that was written as text has no columns, but its text names them
        words = {*_WORD.findall(_STRING.sub("", str(rule.sqltext)))}
        return tuple(column.name for column in table.columns if column.name in words)
    return tuple(column.name for column in rule.columns) if isinstance(rule, ColumnCollectionConstraint | Index) else ()


def _named(said: Diagnosis) -> Diagnosis:
    # SQLite tells the expression of a check without a name, and an expression is no name.
    is_name = said.family != "sqlite" or (said.constraint or "").isidentifier()
    return said if is_name else replace(said, constraint=None)
