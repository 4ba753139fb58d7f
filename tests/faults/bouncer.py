"""A real PgBouncer in transaction mode, with two connections to the server, in front of the database of a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

INI = """
[databases]
{name} = host={host} port={port} user={user} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
query_wait_timeout = {patience}
"""
LEFT_BEHIND = (
    "SELECT pg_backend_pid(), current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),"
    " current_setting('jit'), current_setting('application_name'), (SELECT count(*) FROM pg_prepared_statements),"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), pg_sleep(0.05)"
)


def executable() -> str:
    """Return the path of PgBouncer; where there is none, the test fails."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = os.environ.get("FASTKIT_PGBOUNCER") or shutil.which("pgbouncer", path=places)
    return found or pytest.fail("not found: pgbouncer. apt install pgbouncer, or FASTKIT_PGBOUNCER=/path/to/it")


class PgBouncer:
    """A PgBouncer of this test's own."""

    def __init__(self, folder: Path, url: str, patience: float = 60) -> None:
        server = make_url(url)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        words = {
            "host": server.host,
            "port": server.port or 5432,
            "user": server.username,
            "own_port": self.port,
            "name": server.database,
        }
        ini = folder / "pgbouncer.ini"
        ini.write_text(
            INI.format(password=f"password={server.password}" if server.password else "", patience=patience, **words)
        )
        as_somebody = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to be root
        self._process = subprocess.Popen([executable(), "-q", *as_somebody, str(ini)], stderr=subprocess.DEVNULL)
        self._wait_until_it_listens()

    def url(self, url: str) -> str:
        """Return the URL of a database that leads through here."""
        return make_url(url).set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _wait_until_it_listens(self) -> None:
        for _ in range(200):
            assert self._process.poll() is None, "PgBouncer did not start"
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.02)  # another process tells nothing
            else:
                return
        pytest.fail("PgBouncer does not listen")


def left_behind(bouncer: PgBouncer, url: str) -> dict[int, tuple[Any, ...]]:
    """Return what another client finds on each of the two connections to the server."""
    engine = create_engine(
        make_url(bouncer.url(url)).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"prepare_threshold": None},
    )
    found: dict[int, tuple[Any, ...]] = {}

    def look() -> None:
        with engine.connect() as connection:
            number, *rest, _ = connection.execute(text(LEFT_BEHIND)).one()
            found[number] = tuple(rest)

    for _ in range(10):
        threads = [threading.Thread(target=look) for _ in range(2)]  # at once, so that each gets its own
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    return found
