"""Walk through windows of random lists, try random statements against scopes, send requests that nobody should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WALKS = "tests/repository/test_window_walks.py"
STATEMENTS = "tests/scopes/test_statements.py"
REQUESTS = "tests/security/fuzzing.py"


def main(arguments: list[str]) -> int:
    """Return 0 if no row was lost, met twice, or seen past a scope, and no answer is wrong; arguments go to pytest."""
    environment = {"FASTKIT_EXAMPLES": "1000", **os.environ, "FASTKIT_REQUIRE_SERVERS": "1"}
    walks = [sys.executable, "-m", "pytest", "-q", "-n", "auto", WALKS, STATEMENTS, *arguments]
    failed = [subprocess.call(command, cwd=ROOT, env=environment) for command in (walks, [sys.executable, REQUESTS])]
    return 1 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
