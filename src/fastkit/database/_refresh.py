"""Let a query read objects afresh that are in the session already, without losing anything of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value


@contextmanager
def read_afresh(session: Session, states: Iterable[InstanceState[Any]]) -> Generator[set[InstanceState[Any]]]:
    """
    Make what is queried here overwrite the unmodified columns of these objects; yield the states that it did.

    SQLAlchemy's own `populate_existing` overwrites modified columns too, and drops relationships that are loaded. Here
    the columns are expired while the query runs, so that it fills them in, and get their old values back where it did
    not come across the object. The query must be flushed before and fetched within.
    """
    expired = [(entity, state, refreshable(state)) for state in states if (entity := state.obj()) is not None]
    for entity, _, values in expired:
        if values:
            session.expire(entity, list(values))
    read: set[InstanceState[Any]] = set()
    try:
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
    keys = {mapper.get_property_by_column(column).key for column in mapper.primary_key}
    return {
        name: loaded[name]
        for name in mapper.column_attrs.keys()  # noqa: SIM118 - not a dict
        if name in loaded and name not in modified and name not in keys
    }
