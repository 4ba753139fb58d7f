"""
How Alembic reaches the database: with a sync or an async driver, whichever the URL names.

The engine is a plain one, and not that of a fastkit `Database`: a migration may take longer than a request, and where
SQLite copies a table and drops the old one, foreign keys must not be enforced, or `ON DELETE CASCADE` empties others.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from migrations.models import Base

URL = os.environ.get("MIGRATIONS_DATABASE", "sqlite+aiosqlite:///shop.db")


def migrate(connection: Connection) -> None:
    """Run the migrations that were asked for, in one transaction where the database has such."""
    if connection.dialect.name == "postgresql":
        # While a migration waits for its lock, all others wait behind it: rather give up soon, and try again.
        connection.exec_driver_sql("SET lock_timeout = '5s'")
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # whose ALTER TABLE can do little
        transactional_ddl=connection.dialect.name in {"postgresql", "sqlite"},  # MariaDB commits by itself
    )
    with context.begin_transaction():
        context.run_migrations()


def with_real_transactions(engine: Engine) -> None:
    """Let SQLite roll back a migration that fails: its driver begins no transaction for tables."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connect(dbapi: Any, record: Any) -> None:
        dbapi.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def run() -> None:
    """Migrate with a sync driver."""
    engine = create_engine(URL, poolclass=NullPool)
    with_real_transactions(engine)
    with engine.connect() as connection:
        migrate(connection)


async def run_async() -> None:
    """Migrate with an async driver."""
    engine = create_async_engine(URL, poolclass=NullPool)
    with_real_transactions(engine.sync_engine)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)


if context.is_offline_mode():
    context.configure(url=URL, target_metadata=Base.metadata, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()
elif make_url(URL).get_dialect().is_async:
    asyncio.run(run_async())
else:
    run()
