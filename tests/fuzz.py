"""Walk 10,000 times through windows of random lists, and try 1,000 random statements against scopes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WALKS = "tests/repository/test_window_walks.py"
STATEMENTS = "tests/scopes/test_statements.py"


def main(arguments: list[str]) -> int:
    """Return 0 if no row was lost, met twice, or seen past a scope; arguments go to pytest."""
    environment = {"FASTKIT_EXAMPLES": "1000", **os.environ, "FASTKIT_REQUIRE_SERVERS": "1"}
    return subprocess.call(
        [sys.executable, "-m", "pytest", "-q", "-n", "auto", WALKS, STATEMENTS, *arguments], cwd=ROOT, env=environment
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
