"""Other processes that a test talks to by lines, and kills."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class Child:
    """
    A script of this folder in a process of its own; a context manager, at whose end it is dead.

    Attributes:
        said: The lines that it wrote so far, or all of them once it is dead.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self.said: list[str] = []

    def tell(self, line: str) -> None:
        """Write one line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def wait_for(self, line: str) -> None:
        """Read until it says this line."""
        assert self._process.stdout is not None
        for said in self._process.stdout:
            self.said.append(said.strip())
            if self.said[-1] == line:
                return
        raise AssertionError(f"the child ended before it said {line!r}: {self.said[-3:]}")

    def kill(self) -> None:
        """Kill it with SIGKILL, which it can neither catch nor delay, and read what it had said before."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        rest = self._process.stdout.read()
        self.said += [line for line in rest.split("\n")[:-1] if line]

    def numbers(self, what: str) -> set[int]:
        """Return the numbers behind a word that it said."""
        pairs = [line.split() for line in self.said]
        return {int(number) for word, number in pairs if word == what}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
