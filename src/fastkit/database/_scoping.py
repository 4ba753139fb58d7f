"""The scopes of one unit of work, as its session asks them: what each statement gets, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Delete, Executable, Insert, Select, Update
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import StatementLambdaElement

from fastkit.database._scope_check import refuse_uncovered
from fastkit.database._scope_writes import ScopeWrites, is_own
from fastkit.errors import ScopeError


class Scoping(ScopeWrites):
    """The scopes of one unit of work."""

    def applied(self, statement: Any, parameters: Any, options: Mapping[str, Any]) -> Any:
        """
        Return a statement with the criteria of the scopes that hold.

        Raises:
            ScopeError: The statement would get around one.
        """
        criteria = self.criteria
        if criteria is None or is_own(options) or criteria in getattr(statement, "_with_options", ()):
            return statement
        if type(statement) is Select and statement._propagate_attrs.get("compile_state_plugin") == "orm":  # noqa: SLF001 - no public word
            return statement.options(criteria)  # looked at when it is compiled
        if isinstance(statement, ExecutableDDLElement):
            self.refuse_raw("DDL")
        if isinstance(statement, FunctionElement):
            statement = statement.select()
        if isinstance(statement, Insert | Update | Delete):
            self.refuse_write(statement, parameters, options)
        plain = statement._resolved if isinstance(statement, StatementLambdaElement) else statement  # noqa: SLF001 - what it will run as
        refuse_uncovered(plain, criteria.concerned, self.owner.known)
        takes_criteria = isinstance(statement, Executable) and not isinstance(statement, Insert)
        return statement.options(criteria) if takes_criteria else statement

    def refuse_raw(self, what: str) -> None:
        """Refuse what is sent past the session while a scope holds."""
        if (criteria := self.criteria) is not None:
            name = criteria.key[1][0].name
            raise ScopeError(
                f"{what} is sent past the scope {name!r}: use the session or a repository, or say "
                f"`with shop.unscoped({name}, reason=...)`.",
                name,
            )
