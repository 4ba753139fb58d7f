"""Walk through windows of random lists for longer than `make test` does: 10,000 of them, on every driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WALKS = "tests/repository/test_window_walks.py"


def main(arguments: list[str]) -> int:
    """Return 0 if no row was lost or met twice; arguments go to pytest."""
    environment = {"FASTKIT_EXAMPLES": "1000", **os.environ, "FASTKIT_REQUIRE_SERVERS": "1"}
    return subprocess.call(
        [sys.executable, "-m", "pytest", "-q", "-n", "auto", WALKS, *arguments], cwd=ROOT, env=environment
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
