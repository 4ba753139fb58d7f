"""Run the benchmarks: `python bench`, or one of them with its own arguments: `python bench guards --only asyncpg`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = ("first", "guards", "gather", "readers", "bulk", "http", "latency")


def main(arguments: list[str]) -> int:
    """Return 0 if every benchmark that was run reached its goal."""
    chosen, more = (arguments[:1], arguments[1:]) if arguments[:1] and arguments[0] in NAMES else (NAMES, arguments)
    folder = Path(__file__).resolve().parent
    return max(subprocess.call([sys.executable, str(_script(folder, name)), *more]) for name in chosen)


def _script(folder: Path, name: str) -> Path:
    """Return what Python runs: a file, or a folder with a `__main__.py`."""
    file = folder / f"{name}.py"
    return file if file.exists() else folder / name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
