"""Run what `make test` samples, whole: every fault, every cancellation once and twice, every broken promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "faults and cancellations": ["-m", "pytest", "-q", "tests/faults", "tests/uow", "tests/isolation", "--timeout=600"],
    "through PgBouncer": ["-m", "pytest", "-q", "tests/faults/pgbouncer.py"],
    "the tests that go red": ["tests/mutants.py"],
    "they are green otherwise": ["tests/mutants.py", "--green"],
}


def main(arguments: list[str]) -> int:
    """Return 0 if everything passed; arguments go to pytest."""
    environment = {**os.environ, "FASTKIT_SLOW": "1", "FASTKIT_REQUIRE_SERVERS": "1"}
    failed = []
    for name, command in PARTS.items():
        print(f"\n$ {name}", flush=True)  # noqa: T201 - for whoever runs it
        more = arguments if "pytest" in command else []
        if subprocess.call([sys.executable, *command, *more], cwd=ROOT, env=environment):
            failed.append(name)
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nAll passed.")  # noqa: T201 - same
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
