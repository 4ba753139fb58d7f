"""
A process that takes the write lock of a SQLite file and gives it back: `python locker.py FILE SEED`.

It obeys lines on its standard input, and repeats each on its standard output when it is done: "hold" takes the lock,
"free" gives it back, "storm" does both many times, for random times, and writes rows of its own.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time

ROUNDS = 25


def storm(connection: sqlite3.Connection, chance: random.Random) -> None:
    """Hold the lock for some milliseconds, every sixth time for longer than the others are willing to wait."""
    for number in range(ROUNDS):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO author (name) VALUES (?)", [f"storm-{number}"])
        time.sleep(0.15 if number % 6 == 5 else chance.uniform(0, 0.02))
        connection.execute(chance.choice(["COMMIT", "ROLLBACK"]))
        time.sleep(chance.uniform(0, 0.01))


def main(path: str, seed: str) -> None:
    """Obey until the input ends."""
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    chance = random.Random(seed)
    for line in sys.stdin:
        command = line.strip()
        if command == "storm":
            storm(connection, chance)
        else:
            connection.execute({"hold": "BEGIN IMMEDIATE", "free": "ROLLBACK"}[command])
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
