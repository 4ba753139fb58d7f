"""Load the catalogue, serve the bookshop, take the tour, and go on serving until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from bookshop.demo.app import demo_app
from bookshop.demo.server import serving
from bookshop.demo.tour import walk
from bookshop.load import load
from fastkit import Database


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every step of the tour showed what it claims, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m bookshop.demo", description="A tour of the bookshop.")
    parser.add_argument("--tour-only", action="store_true", help="end after the tour")
    tour_only = parser.parse_args(arguments).tour_only
    with TemporaryDirectory(prefix="bookshop-") as folder:
        return 0 if demonstrate(Path(folder), goes_on=not tour_only) else 1


def demonstrate(folder: Path, *, goes_on: bool) -> bool:
    """Return whether the tour in this folder, with its database and its log, showed what it claims."""
    file, log = folder / "bookshop.db", folder / "server.log"
    logging.basicConfig(filename=log, force=True)  # the tour provokes errors: their tracebacks belong there
    load(f"sqlite:///{file}")
    with serving(demo_app(f"sqlite+aiosqlite:///{file}")) as address:
        print(f"The bookshop is open at {address}, on SQLite.")
        with Database(f"sqlite:///{file}") as database:
            success = walk(address, database)
        if goes_on:
            print(f"\nThe bookshop stays open: {address}/docs\nIts log: {log}\nCtrl-C closes it.", flush=True)
            with suppress(KeyboardInterrupt):
                Event().wait()
    if not success:
        print(f"\nThe end of its log:\n{log.read_text()[-4000:]}")
    return success


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to stop clean up
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
