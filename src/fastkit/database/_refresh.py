"""Let a query read objects afresh that are in the session already, without losing anything of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Executable, Select, inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, Mapper, Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import CriteriaOption

_EAGER = {"joined", "selectin", "subquery", "immediate"}


@contextmanager
def read_afresh(session: Session, states: Iterable[InstanceState[Any]]) -> Generator[set[InstanceState[Any]]]:
    """
    Make what is queried here overwrite the unmodified columns of these objects; yield the states that it did.

    SQLAlchemy's own `populate_existing` overwrites modified columns too, and drops relationships that are loaded. Here
    the columns are expired while the query runs, so that it fills them in, and get their old values back where it did
    not come across the object. The query must be flushed before and fetched within. What is expired already, by a call
    around this one, is left to that.
    """
    expired = [
        (entity, state, values)
        for state in states
        if state.persistent and state.session is session
        if (entity := state.obj()) is not None and (values := refreshable(state))
    ]
    read: set[InstanceState[Any]] = set()
    try:
        for entity, _, values in expired:
            session.expire(entity, list(values))
        yield read
    finally:
        for entity, state, values in expired:
            missing = values.keys() - state.dict.keys()
            for key in missing:
                set_committed_value(entity, key, values[key])
            if not missing:
                read.add(state)


def refreshable(state: InstanceState[Any]) -> dict[str, Any]:
    """Return the loaded columns that were not modified, with their values; the key is not among them."""
    mapper, loaded, modified = state.mapper, state.dict, state.committed_state
    kept = [*mapper.primary_key]
    if modified and mapper.version_id_col is not None:
        kept.append(mapper.version_id_col)  # or a change that rests on old values would pass for a new one
    keys = {mapper.get_property_by_column(column).key for column in kept}
    return {
        name: loaded[name]
        for name in mapper.column_attrs.keys()  # noqa: SIM118 - not a dict
        if name in loaded and name not in modified and name not in keys
    }


def read_again(session: Session, loaded: Mapping[InstanceState[Any], AbstractSet[str]]) -> None:
    """
    Read the attributes again that were loaded and have been expired since, by a rollback to a savepoint.

    Whoever touched them would read them then; in async code that is too late.
    """
    for state, keys in loaded.items():
        entity, missing = state.obj(), keys - state.dict.keys()
        if entity is not None and missing and state.session is session:
            with suppress(InvalidRequestError):  # its row has gone
                session.refresh(entity, sorted(missing))


def found_by(statement: Executable, states: Iterable[InstanceState[Any]]) -> list[InstanceState[Any]]:
    """Return those of the states that a query can come across; all of them if it cannot be told."""
    candidates = list(states)
    if not isinstance(statement, Select):
        return candidates
    entities = [each["entity"] for each in statement.column_descriptions if each["expr"] is each.get("entity")]
    mappers: set[Mapper[Any]] = {_mapper_of(entity) for entity in entities}
    options = [each for each in statement._with_options if not isinstance(each, CriteriaOption)]  # noqa: SLF001 - no public word
    if options or any(_loads_others(mapper) for mapper in mappers):
        return candidates
    classes = tuple(mapper.base_mapper.class_ for mapper in mappers)
    return [state for state in candidates if issubclass(state.class_, classes)]


def _mapper_of(entity: Any) -> Mapper[Any]:
    mapper: Mapper[Any] = inspect(entity).mapper
    return mapper


def _loads_others(mapper: Mapper[Any]) -> bool:
    return any(each.lazy in _EAGER for sub in mapper.self_and_descendants for each in sub.relationships)
