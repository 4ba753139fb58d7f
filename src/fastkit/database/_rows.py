"""Rows of a SELECT of columns, by the shortest way: the one place that knows how SQLAlchemy runs a statement."""
# ruff: noqa: SLF001 - there is no public word for any of it

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.exc import PendingRollbackError, ResourceClosedError
from sqlalchemy.sql.compiler import WARN_LINTING, SQLCompiler

from fastkit.database._backend import MODE, PATIENCE

Processors: TypeAlias = Sequence[tuple[int, Callable[[Any], Any]]]
"""Which places of a row are converted, and how."""

_OWN: set[Callable[..., Any]] = set()
_OPTIONS = frozenset({MODE, PATIENCE, "isolation_level", "postgresql_readonly"})
_OPTIONS_OF_STATEMENTS = frozenset({"_result_disable_adapt_to_context"})  # concerns the result that is left out
_PROCESSORS = "fastkit_processors"
"""Where a compiled statement keeps how its columns are converted."""


def listen_as_own(engine: Engine, name: str, listener: Callable[..., Any]) -> None:
    """Listen to an event without making reads take the long way, as they do when somebody else listens."""
    _OWN.add(listener)
    answers = {"retval": True} if name == "before_cursor_execute" else {}  # without it SQLAlchemy wraps the function
    event.listen(engine, name, listener, **answers)


def all_rows(connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """
    Return all rows of a query of columns: the values of `connection.execute(...).all()`, sooner.

    SQLAlchemy compiles and sends the statement, converts the values and handles the errors, as ever. Left out is what
    rows without names do not need: the search for what was compiled, if the same statement is run again and again, the
    result and its rows, and the transaction of a read that is complete in itself. If anybody else may be looking, or
    anything is unusual, nothing is left out.
    """
    if not (HAS_KNOWN_PARTS and _is_usual(connection, statement)):
        return connection.execute(statement, parameters).all()
    query = _Query.of(connection, statement, parameters)
    if not query.is_by_place:
        return connection.execute(statement, parameters).all()
    context = query.context(connection, [parameters] if parameters else [])
    if connection._transaction is None and not _is_alone(connection):
        connection._autobegin()
    context.pre_exec()
    description, found = _sent(connection, context)
    if len(description) != len(query.compiled._result_columns):
        return connection.execute(statement, parameters).all()
    processors = query.compiled.__dict__.get(_PROCESSORS)
    if processors is None:
        processors = query.compiled.__dict__[_PROCESSORS] = _processors(context, description)
    return _converted(found, processors)


class _Query(NamedTuple):
    """
    A statement as SQLAlchemy has compiled it, and where its values are.

    Attributes:
        statement: The statement.
        compiled: Its text, or the text of one that differs from it only in values.
        values: The values of the statement, if the text is of another one.
        more: Further values, by their names.
        found: Whether it was compiled before, as SQLAlchemy puts it.
    """

    statement: Select[Any]
    compiled: SQLCompiler
    values: Sequence[Any] | None
    more: Mapping[str, Any] | None
    found: Any

    @classmethod
    def of(cls, connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> _Query:
        """Compile a statement once; one that is run again is found by what it is, not by what it consists of."""
        dialect = connection.dialect
        cache: Any = connection.engine._compiled_cache
        known: Any = cache.get((dialect, statement))
        if known is None and _runs_again(statement):
            known = cache[dialect, statement] = statement.compile(dialect=dialect)
        if known is not None:
            return cls(statement, known, None, None, dialect.CACHE_HIT)
        linting = dialect.compiler_linting | WARN_LINTING
        compiled: Any = statement._compile_w_cache(
            dialect, compiled_cache=cache, column_keys=sorted(parameters), linting=linting
        )
        return cls(statement, *compiled)

    @property
    def is_by_place(self) -> bool:
        """Return whether each column of the text is one of the statement, so that none is found by its name."""
        compiled = self.compiled
        return compiled._ordered_columns and not (compiled._textual_ordered_columns or compiled._ad_hoc_textual)

    def context(self, connection: Connection, parameters: Sequence[Mapping[str, Any]]) -> Any:
        """Return the dialect's own notes of the statement: its cursor, and its parameters as the driver takes them."""
        dialect = connection.dialect
        made_by: Any = dialect.execution_ctx_cls
        try:
            return made_by._init_compiled(
                dialect,
                connection,
                connection._dbapi_connection,
                self.statement._execution_options.merge_with(connection._execution_options),
                self.compiled,
                parameters,
                self.statement,
                self.values,
                cache_hit=self.found,
                param_dict=self.more,
            )
        except (PendingRollbackError, ResourceClosedError):
            raise
        except BaseException as error:  # noqa: BLE001 - SQLAlchemy raises it again
            connection._handle_dbapi_exception(error, str(self.compiled), parameters, None, None)


def look_through(view: Engine) -> Engine:
    """Ask the engine behind a view for listeners from now on, as long as nobody else listens to the view; return it."""
    view.__dict__.pop("_has_events", None)
    return view


def _listeners(engine: Engine) -> Any:
    own = engine.__dict__
    return engine.dispatch if own.get("_has_events") or "_proxied" not in own else own["_proxied"].dispatch


def _is_usual(connection: Connection, statement: Select[Any]) -> bool:
    """Return whether the short way does all that the long way would do here."""
    told, transaction = _listeners(connection.engine), connection._transaction
    return (
        type(statement) is Select
        and statement._execution_options.keys() <= _OPTIONS_OF_STATEMENTS
        and connection._execution_options.keys() <= _OPTIONS
        and connection.engine._compiled_cache is not None
        and connection._dbapi_connection is not None
        and connection._nested_transaction is None
        and (transaction is None or transaction.is_active)
        and not (connection._has_events or connection._echo or connection._trans_context_manager)
        and not (told.before_execute or told.after_execute or told.after_cursor_execute)
        and not connection.dialect.dispatch.do_execute
        and (not told.before_cursor_execute or _OWN.issuperset(told.before_cursor_execute))
    )


def _is_alone(connection: Connection) -> bool:
    """Return whether a read needs no transaction, and nobody wants to be told of one."""
    mode, told = connection._execution_options.get(MODE), _listeners(connection.engine)
    return mode is not None and mode.autocommit and not told.rollback and _OWN.issuperset(told.begin)


def _runs_again(statement: Select[Any]) -> bool:
    """Return whether this very statement was run before, and can be told from others."""
    return "_generate_cache_key" in statement.__dict__ and statement._generate_cache_key() is not None


def _sent(connection: Connection, context: Any) -> tuple[Sequence[Any], Sequence[Sequence[Any]]]:
    """Send a statement, and return the description of its columns and all of its rows as the driver gives them."""
    cursor, text, parameters = context.cursor, context.statement, context.parameters[0]
    try:
        for listener in _listeners(connection.engine).before_cursor_execute:
            text, parameters = listener(connection, cursor, text, parameters, context, False)
        connection.dialect.do_execute(cursor, text, parameters, context)
        context.post_exec()
        answer = cursor.description, cursor.fetchall()
        connection._safe_close_cursor(cursor)
    except BaseException as error:  # noqa: BLE001 - SQLAlchemy raises it again
        connection._handle_dbapi_exception(error, text, parameters, cursor, context)
    return answer


def _processors(context: Any, description: Sequence[Any]) -> Processors:
    """Return how the dialect converts the values of each column, which also depends on what the driver says it is."""
    columns = zip(context.compiled._result_columns, description, strict=True)
    made = [context.get_result_processor(column.type, column.keyname, told[1]) for column, told in columns]
    return [(place, processor) for place, processor in enumerate(made) if processor is not None]


def _converted(found: Sequence[Sequence[Any]], processors: Processors) -> list[tuple[Any, ...]]:
    if not processors or not found:
        return list(map(tuple, found))
    columns: list[Any] = list(zip(*found, strict=True))
    for place, processor in processors:
        columns[place] = map(processor, columns[place])
    return list(zip(*columns, strict=True))


def _has_known_parts() -> bool:
    """Return whether SQLAlchemy is made as this module expects."""
    made = signature(DefaultExecutionContext._init_compiled).parameters
    compiled = signature(Select._compile_w_cache).parameters
    return " ".join(made) == _MADE_OF and " ".join(compiled) == _COMPILED_FROM


_MADE_OF = (
    "dialect connection dbapi_connection execution_options compiled parameters invoked_statement extracted_parameters "
    "cache_hit param_dict"
)
_COMPILED_FROM = "self dialect compiled_cache column_keys for_executemany schema_translate_map kw"
HAS_KNOWN_PARTS = _has_known_parts()
