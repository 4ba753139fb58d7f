"""From a URL to an engine, with a clear word for what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError

from fastkit.database._backend import Backend
from fastkit.database._mariadb import MariaDBBackend
from fastkit.database._pgbouncer import PgBouncerBackend
from fastkit.database._postgresql import PostgreSQLBackend
from fastkit.database._sqlite import SQLiteBackend
from fastkit.database._values import json_text
from fastkit.database.timeouts import Timeouts
from fastkit.errors import DeclarationError

_BACKENDS: Mapping[str, type[Backend]] = {
    "sqlite": SQLiteBackend,
    "postgresql": PostgreSQLBackend,
    "mariadb": MariaDBBackend,
    "mysql": MariaDBBackend,
}
_DRIVERS = {
    "sqlite": ("sqlite", "sqlite+aiosqlite", "sqlite"),
    "postgresql": ("postgresql+psycopg", "postgresql+asyncpg", "postgres"),
    "mariadb": ("mariadb+pymysql", "mariadb+asyncmy", "mysql"),
    "mysql": ("mysql+pymysql", "mysql+asyncmy", "mysql"),
}


_BARE = {"postgresql", "sqlite"}
"""URLs without a driver whose default driver is a known one."""


def backend_of(url: URL, *, pgbouncer: bool) -> Backend:
    """
    Return what is particular to this kind of database, and to the way that leads there.

    Raises:
        DeclarationError: fastkit does not know it, or PgBouncer does not.
    """
    name = url.get_backend_name()
    if name not in _BACKENDS:
        hint = ": write postgresql+asyncpg:// or postgresql+psycopg://" if name == "postgres" else ""
        raise DeclarationError(f"fastkit knows SQLite, PostgreSQL and MariaDB, not {name!r}{hint}.")
    if pgbouncer and name != "postgresql":
        raise DeclarationError(f"pgbouncer=True: PgBouncer serves PostgreSQL, and this is {name}. Leave it out.")
    return PgBouncerBackend() if pgbouncer else _BACKENDS[name]()


def prepare(
    url: str | URL,
    timeouts: Timeouts,
    pool_size: int,
    own_options: Mapping[str, Any],
    *,
    is_async: bool,
    pgbouncer: bool,
) -> tuple[URL, dict[str, Any]]:
    """
    Return the parsed URL and the arguments for `create_engine`; what the app gives itself wins.

    Raises:
        DeclarationError: It is no URL, or its driver is of the other colour.
    """
    try:
        parsed = make_url(url)
        backend = backend_of(parsed, pgbouncer=pgbouncer)
        driver_is_async = parsed.get_dialect().is_async or parsed.drivername in {
            "postgresql",
            "postgresql+psycopg",
        }
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise DeclarationError(
            "This is not a database URL. It looks like postgresql+asyncpg://user:password@host/name "
            "or sqlite+aiosqlite:///shop.db (three slashes, then the file)."
        ) from error
    if is_async != driver_is_async and parsed.drivername not in {"postgresql", "postgresql+psycopg"}:
        sync_driver, async_driver, _ = _DRIVERS[parsed.get_backend_name()]
        name, driver = ("AsyncDatabase", async_driver) if is_async else ("Database", sync_driver)
        raise DeclarationError(f"{name} cannot use the driver of {parsed.drivername}://: write {driver}:// instead.")
    if not pool_size >= 1:
        raise DeclarationError(f"pool_size is at least 1, not {pool_size!r}.")
    options = backend.engine_options(parsed, timeouts)
    pool_options = {"pool_size": pool_size, "max_overflow": pool_size // 2, "pool_timeout": timeouts.pool}
    if "poolclass" in own_options:
        pool_options = {}  # other pools do not take the arguments of a queue
    limits = options["connect_args"]
    connect_args = {**limits, **backend.joined(parsed, limits, own_options.get("connect_args", {}))}
    options["json_serializer"] = json_text
    options["hide_parameters"] = True  # they are the values of rows, and would be in the logs
    return parsed, {**pool_options, **options, **own_options, "connect_args": connect_args}


def create(factory: Any, url: URL, options: dict[str, Any]) -> Any:
    """
    Return the engine that *factory* makes.

    Raises:
        DeclarationError: The driver is not installed, or cannot be used this way.
    """
    try:
        return factory(url, **options)
    except ModuleNotFoundError as error:
        *known, extra = _DRIVERS[url.get_backend_name()]
        if url.drivername not in {*known, *_BARE}:
            raise DeclarationError(
                f"fastkit does not know the driver of {url.drivername}://: write one of {', '.join(known)} "
                f"and pip install 'fastkit-blocks[{extra}]'."
            ) from error
        raise DeclarationError(
            f"The driver of {url.drivername}:// is not installed: pip install 'fastkit-blocks[{extra}]'."
        ) from error
    except InvalidRequestError as error:
        raise DeclarationError(f"{url.drivername}:// cannot be used here: {error}") from error
