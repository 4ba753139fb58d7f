"""What a mapped object says of itself, asked without importing SQLAlchemy."""

from __future__ import annotations

from typing import Any


def mapper_of(kind: type[Any]) -> Any | None:
    """Return SQLAlchemy's mapper of a class, or None if it is not mapped."""
    return getattr(kind, "__mapper__", None)


def is_loaded(entity: Any, name: str) -> bool:
    """Return whether an attribute can be read without a query."""
    state = entity._sa_instance_state  # noqa: SLF001 - what inspect() of SQLAlchemy returns
    return _behind(state.mapper, name).isdisjoint(state.unloaded)


def is_relationship(kind: type[Any], name: str) -> bool:
    """Return whether an attribute holds related objects."""
    mapper = mapper_of(kind)
    return mapper is not None and not _behind(mapper, name).isdisjoint(mapper.relationships.keys())


def is_version(kind: type[Any], name: str) -> bool:
    """Return whether an attribute is the column that tells one state of a row from another (`version_id_col`)."""
    mapper = mapper_of(kind)
    if mapper is None or mapper.version_id_col is None or name not in mapper.column_attrs:
        return False
    return mapper.version_id_col in mapper.column_attrs[name].columns


def is_json(kind: type[Any], name: str) -> bool:
    """Return whether an attribute is a column of JSON, and not of a type of the app that makes objects of it."""
    mapper = mapper_of(kind)
    if mapper is None or name not in mapper.column_attrs:
        return False
    return getattr(mapper.column_attrs[name].columns[0].type, "__visit_name__", None) in {"JSON", "JSONB"}


class Loaded:
    """A mapped object that lacks some attributes unless they are loaded."""

    def __init__(self, entity: Any, names: frozenset[str]) -> None:
        self.__entity = entity
        self.__names = names

    def __getattr__(self, name: str) -> Any:
        if name in self.__names and not is_loaded(self.__entity, name):
            raise AttributeError(name)
        return getattr(self.__entity, name)

    def __repr__(self) -> str:
        return repr(self.__entity)


def _behind(mapper: Any, name: str) -> set[str]:
    """Return the attributes whose values make up this one; none for what is plain Python of the class."""
    if name in mapper.synonyms:
        return _behind(mapper, mapper.synonyms[name].name)
    if name in mapper.composites:
        return {each.key for each in mapper.composites[name].props}
    if name in mapper.attrs:
        return {name}
    proxy = mapper.all_orm_descriptors.get(name)
    through = getattr(proxy, "target_collection", None)
    return set() if through is None else {through}
