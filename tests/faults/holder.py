"""
A process that holds a lock on a name: `python holder.py URL NAME`.

It says "holds" when it does, and goes on until its input ends, or until it is told "end when somebody waits".
"""

from __future__ import annotations

import sys
import time

from sqlalchemy import text

from fastkit import Database, UnitOfWork

WAITING = text(
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
)


def main(url: str, name: str) -> None:
    """Take the lock, and hold it."""
    database = Database(url)
    with UnitOfWork(database) as unit:
        unit.lock(name)
        sys.stdout.write("holds\n")
        sys.stdout.flush()
        if sys.stdin.readline():
            with database.engine.connect() as lookout:
                while not lookout.execute(WAITING).scalar():
                    time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
