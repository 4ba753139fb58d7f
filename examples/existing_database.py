"""
A read-only API for a database that is already there, whatever its tables: lists, single rows, and what belongs to them.

    DATABASE="sqlite:///file:chinook.db?mode=ro&uri=true" uvicorn --app-dir examples existing_database:app
"""

import os
from itertools import zip_longest
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import Field, PlainSerializer, create_model
from pydantic_core import to_jsonable_python
from sqlalchemy import MetaData, event, inspect, literal, types
from sqlalchemy.orm import registry

from fastkit import Database, From, Page, Repository, UnitOfWork
from fastkit.deps import install, listed, unit_of_work
from fastkit.repository import ListQuery, Sort

Cell = Annotated[Any, PlainSerializer(lambda value: to_jsonable_python(value, bytes_mode="base64", fallback=str))]
UnitDep = Annotated[UnitOfWork, unit_of_work(UnitOfWork)]
database, metadata = Database(os.environ["DATABASE"]), MetaData()
app = FastAPI(lifespan=database.lifespan)
install(app, {UnitOfWork: database})


def equal(keys: Any) -> Any:
    """Return what tells which rows a key is of: "1/2" is a key of two columns, and a missing part equals nothing."""
    return lambda key: [a == literal(b, types.NullType()) for a, b in zip_longest(keys, key.split("/", len(keys) - 1))]


def add_routes(table: Any) -> None:
    """Add /table, /table/key, and /table/column/key for each foreign key."""
    model: Any = registry().map_imperatively(type(table.name, (), {}), table).class_
    fields: Any = [(Annotated[Cell, From(getattr(model, c.key))], Field(serialization_alias=c.name)) for c in table.c]
    out: Any = create_model(table.name, **{f"column_{number}": field for number, field in enumerate(fields)})
    keys = (c.key for c in table.c if not isinstance(c.info["type"], types.JSON | types.NullType))
    asked: Any = type(table.name, (ListQuery[model],), {"sort": Sort(*keys)})

    def add_list(path: str, where: Any) -> None:
        @app.get(path, response_model=Page[out])
        def rows(unit: UnitDep, query: Annotated[Any, listed(asked)], where: Annotated[Any, Depends(where)]) -> Any:
            return Repository(unit.session, model).into(out).page(query, *where)

    add_list(f"/{table}", lambda: ())
    for constraint in table.foreign_key_constraints:
        add_list(f"/{table}/{','.join(constraint.column_keys)}/{{key:path}}", equal(constraint.columns))

    @app.get(f"/{table}/{{key:path}}", response_model=out)
    def row(unit: UnitDep, where: Annotated[Any, Depends(equal(table.primary_key))]) -> Any:
        return Repository(unit.session, model).into(out).one(*where)


# Values come from the driver and go to it as they are: a column of SQLite may hold anything, whatever its type.
event.listen(metadata, "column_reflect", lambda _, __, c: c.update(info={"type": c["type"]}, type=types.NullType()))
for schema in {None, *inspect(database.engine).get_schema_names()} - {"main", "public", "information_schema"}:
    metadata.reflect(database.engine, schema, resolve_fks=False)
for table in metadata.tables.values():
    add_routes(table) if table.primary_key else print(f"{table} is left out: it has no primary key.")
