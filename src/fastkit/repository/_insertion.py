"""A row that is inserted and shown as a response model, without an object in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Float, Insert, Over, SelectBase, Table, TextClause, insert
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.visitors import iterate

from fastkit.repository._derivation import BY_PLACE, plan_of
from fastkit.repository._plan import Plan
from fastkit.repository._row_values import RowValues, row_values_of


@dataclass(frozen=True, slots=True)
class Insertion:
    """
    How a row of a mapped class is inserted, and what the statement tells of it.

    Attributes:
        row: What the values of the row may be.
        has_floats: Whether the table has a column of floats.
        plain: The statement for a database that returns nothing.
        keyed: The statement that returns the primary key.
        whole: The statement that returns all that the response model shows; None if the row alone does not tell it.
    """

    row: RowValues
    has_floats: bool
    plain: Insert
    keyed: Insert
    whole: Insert | None

    def tells_all(self, dialect: Dialect) -> bool:
        """Return whether the statement returns all that the response model shows."""
        return self.whole is not None and self._returns(dialect)

    def statement(self, expressions: Mapping[str, Any], dialect: Dialect) -> Insert:
        """Return the statement, with these SQL expressions among the values."""
        returning = self.whole if self.whole is not None else self.keyed
        statement = returning if self._returns(dialect) else self.plain
        return statement.values(expressions) if expressions else statement

    def _returns(self, dialect: Dialect) -> bool:
        # SQLite converts what it returns by the type of the first column: 5.0 may come as 5, and 2**60 as a float.
        return dialect.insert_returning and not (self.has_floats and dialect.name == "sqlite")


@cache
def insertion_of(schema: Any, model: Any) -> Insertion:
    """
    Return how a row of a mapped class is inserted and shown as a response model; derived once.

    Raises:
        DeclarationError: The class is kept in several tables, or has listeners that want an object.
    """
    plan, row = plan_of(schema, model), row_values_of(model)
    row.refuse_unheard("before_insert", "after_insert", verb="insert()", instead="use add()")
    table = row.table
    statement = insert(table).execution_options(**BY_PLACE)
    return Insertion(
        row,
        has_floats=any(isinstance(getattr(each.type, "impl", each.type), Float) for each in table.columns),
        plain=statement,
        keyed=statement.returning(*row.mapper.primary_key),
        whole=statement.returning(*plan.columns) if _is_told_by_row(plan, table) else None,
    )


def _is_told_by_row(plan: Plan, table: Table) -> bool:
    """Return whether everything that a plan shows is in the row itself."""
    return bool(plan.columns) and not plan.children and all(_is_of(table, each) for each in plan.columns)


def _is_of(table: Table, selected: Any) -> bool:
    """Return whether an expression has the same value in the statement that inserts a row as in one that reads it."""
    expression = selected.__clause_element__() if hasattr(selected, "__clause_element__") else selected
    parts = list(iterate(expression))
    if any(isinstance(each, ColumnClause) and not table.c.contains_column(each) for each in parts):
        return False
    return not any(isinstance(each, SelectBase | Over | TextClause) for each in parts)
