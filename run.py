#!/usr/bin/env python3
"""
Set everything up in .venv, once, and run a command there; needs nothing but Python 3.11 with venv and pip.

    python3 run.py demo [--tour-only]   the bookshop over HTTP, with a tour
    python3 run.py test [-k uow ...]    the tests, on SQLite and on the servers that are found
    python3 run.py check                linters, types and architecture
    python3 run.py faults [...]         each promise under each fault, whole: takes the better part of an hour
    python3 run.py fuzz [...]           10,000 walks through windows of random lists, and 1,100,000 wrong requests
    python3 run.py soak [...]           10,000 transfers with random faults
    python3 run.py bench [...]          the benchmarks, or one of them: bench guards

What follows the command is passed on; the exit code is that of the command.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / "python"

EXTRAS = ("example", "test", "dev", "bench")
"""Each of them contains those before it."""

COMMANDS = {
    "demo": ("example", ["-m", "bookshop.demo"]),
    "test": ("test", ["-m", "pytest", "-n", "auto", "--maxprocesses", "4"]),
    "check": ("dev", []),
    "faults": ("test", ["tests/faults/whole.py"]),
    "fuzz": ("test", ["tests/fuzz.py"]),
    "soak": ("test", ["tests/faults/soak.py"]),
    "bench": ("bench", ["bench"]),
}
"""By name: the extra that it needs, and what Python runs."""

CHECKS = {
    "ruff check": ["-m", "ruff", "check"],
    "ruff format --check": ["-m", "ruff", "format", "--check"],
    "mypy": ["-m", "mypy"],
    "pyright": ["-m", "pyright", "--pythonpath", str(PYTHON)],
    "lint-imports": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
}
"""What `check` runs: all of them, whether or not one fails."""


def main(arguments: list[str]) -> int:
    """Return the exit code of the command that the arguments name."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the reader of this message has an older one
        return told(f"fastkit needs Python 3.11; this is {sys.version.split()[0]}. Try: python3.12 run.py ...")
    if not arguments or arguments[0] not in COMMANDS:
        return told((__doc__ or "").strip())
    extra, command = COMMANDS[arguments[0]]
    if not is_installed(extra) and (code := install(extra)):
        return code
    return hand_over([*command, *arguments[1:]]) if command else check()


def check() -> int:
    """Run every check; return 0 if all of them pass."""
    failed = []
    for name, command in CHECKS.items():
        print(f"\n$ {name}", flush=True)
        if subprocess.call([PYTHON, *command], cwd=ROOT, env=environment()):
            failed.append(name)
    return told(f"\nFailed: {', '.join(failed)}") if failed else 0


def told(message: str, code: int = 1) -> int:
    """Say what is wrong, and return the exit code."""
    print(message, file=sys.stderr)
    return code


def stamp_of(extra: str) -> Path:
    """Return the file that says what was installed."""
    return VENV / f"fastkit-{extra}.stamp"


def fingerprint() -> str:
    """Return what an installation depends on, as a digest: the declared dependencies, the place, the Python."""
    digest = hashlib.sha256(f"{ROOT}\n{sys.version_info[:2]}\n".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        file = ROOT / name
        digest.update(file.read_bytes() if file.exists() else b"-")
    return digest.hexdigest()


def is_installed(extra: str) -> bool:
    """Return whether .venv has the extra, or one that contains it, as it is declared now."""
    stamps = [stamp_of(name) for name in EXTRAS[EXTRAS.index(extra) :]]
    return PYTHON.exists() and any(stamp.exists() and stamp.read_text() == fingerprint() for stamp in stamps)


def install(extra: str) -> int:
    """Make .venv and install fastkit with an extra; return an exit code."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return told("This Python has no venv or no ensurepip. On Debian and Ubuntu: apt install python3-venv")
    print(f"Installing fastkit and what its {extra} needs into {VENV} (once) ...", flush=True)
    venv = [sys.executable, "-m", "venv", str(VENV)]
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", f".[{extra}]"]
    if (ROOT / "constraints.txt").exists():
        pip += ["-c", "constraints.txt"]
    for command in (venv, pip):
        if code := subprocess.call(command, cwd=ROOT):
            return told(f"The installation failed. If it goes on failing, delete {VENV} and try again.", code)
    stamp_of(extra).write_text(fingerprint())
    return 0


def environment() -> dict[str, str]:
    """Return the environment of a command: the examples can be imported, and .venv comes first on the PATH."""
    path = os.pathsep.join([str(BIN), *filter(None, [os.environ.get("PATH")])])
    modules = os.pathsep.join([str(ROOT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PATH": path, "PYTHONPATH": modules, "VIRTUAL_ENV": str(VENV)}


def hand_over(arguments: list[str]) -> int:
    """Become Python from .venv, so that signals and the exit code are its own; where that is impossible, run it."""
    if os.name == "posix":
        os.chdir(ROOT)
        os.execve(PYTHON, [str(PYTHON), *arguments], environment())  # noqa: S606 - no shell is wanted
    return subprocess.call([PYTHON, *arguments], cwd=ROOT, env=environment())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
