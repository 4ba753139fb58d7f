"""run.py decides what to install and what to run; the tour that it starts ends well only if every step holds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SABOTAGE = """
import sqlite3

def sabotaged(url, load=demo.load):
    load(url)
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute(
        "CREATE TRIGGER leak AFTER INSERT ON order_line BEGIN UPDATE book SET stock = stock + 1; END"
    )
    connection.close()

demo.load = sabotaged
"""


class Bootstrap:
    """The module run.py in a folder of its own, with a list of what it would have run instead of running it."""

    def __init__(self, module: Any, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.module = module
        self.root = root
        self.calls: list[list[str]] = []
        self.codes: dict[str, int] = {}
        for name, value in {"ROOT": root, "VENV": root / ".venv", "PYTHON": root / ".venv" / "bin" / "python"}.items():
            patch.setattr(module, name, value)
        patch.setattr(module.subprocess, "call", self._call)
        patch.setattr(module, "hand_over", lambda arguments: self._call(["python", *arguments]))
        (root / "pyproject.toml").write_text("[project]")

    def _call(self, command: list[object], **_options: Any) -> int:
        words = [str(word) for word in command]
        self.calls.append(words)
        if "venv" in words:
            self.module.PYTHON.parent.mkdir(parents=True, exist_ok=True)
            self.module.PYTHON.touch()
        return next((code for word, code in self.codes.items() if word in words), 0)

    def __call__(self, *arguments: str) -> int:
        """Run run.py with arguments; return its exit code."""
        code: int = self.module.main(list(arguments))
        return code

    def installed(self) -> list[str]:
        """Return what pip was told to install since the last time, and forget all calls."""
        found = [words[words.index("-e") + 1] for words in self.calls if "-e" in words]
        self.calls.clear()
        return found


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bootstrap:
    """Return run.py in an empty folder."""
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "a folder"
    folder.mkdir()
    return Bootstrap(module, folder, monkeypatch)


class TestInstallation:
    """What is installed, and when."""

    def test_once(self, run: Bootstrap) -> None:
        """The first command makes .venv and installs its extra; the second finds it done."""
        assert run("demo") == 0
        assert run.calls[0][1:] == ["-m", "venv", str(run.root / ".venv")]
        assert run.installed() == [".[example]"]

        assert run("demo") == 0
        assert run.calls == [["python", "-m", "bookshop.demo"]]

    def test_a_larger_extra_contains_the_smaller_ones(self, run: Bootstrap) -> None:
        """What check has installed is enough for test and demo, but not the other way round."""
        run("demo")
        assert run.installed() == [".[example]"]
        run("check")
        assert run.installed() == [".[dev]"]
        run("test")
        run("demo")
        assert run.installed() == []

    @pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
    def test_again_when_a_declaration_has_changed(self, run: Bootstrap, name: str) -> None:
        """Another declaration of dependencies, or other pins, are installed."""
        run("test")
        run.installed()
        (run.root / name).write_text("changed")

        run("test")

        assert run.installed() == [".[test]"]

    def test_pins_are_used_where_there_are_any(self, run: Bootstrap) -> None:
        """constraints.txt is handed to pip, if it exists."""
        run("demo")
        assert not any("-c" in words for words in run.calls)
        (run.root / "constraints.txt").write_text("fastapi==0.165.0")

        run("demo")

        assert any("constraints.txt" in words for words in run.calls)

    def test_again_when_python_is_gone(self, run: Bootstrap) -> None:
        """A .venv without Python is made again."""
        run("demo")
        run.installed()
        run.module.PYTHON.unlink()

        run("demo")

        assert run.installed() == [".[example]"]

    def test_a_failed_installation_counts_for_nothing(self, run: Bootstrap, capsys: Any) -> None:
        """The exit code of pip is passed on, nothing is run, and the next time it is tried again."""
        run.codes = {"pip": 3}

        assert run("demo") == 3
        assert run.installed() == [".[example]"]
        assert "delete" in capsys.readouterr().err
        assert run("demo") == 3
        assert run.installed() == [".[example]"]

    @pytest.mark.parametrize("missing", ["venv", "ensurepip"])
    def test_a_python_without_venv(
        self, run: Bootstrap, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        """The message says what to install; nothing is run."""
        monkeypatch.setattr(run.module.importlib.util, "find_spec", lambda name: None if name == missing else object())

        assert run("demo") == 1

        assert "apt install python3-venv" in capsys.readouterr().err
        assert run.calls == []

    def test_an_old_python(self, run: Bootstrap, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        """The message names the Python that is needed; nothing is run."""
        monkeypatch.setattr(run.module.sys, "version_info", (3, 10, 9))

        assert run("demo") == 1

        assert "needs Python 3.11" in capsys.readouterr().err
        assert run.calls == []


class TestCommands:
    """What is run, and what the exit code is."""

    def test_arguments_are_passed_on(self, run: Bootstrap) -> None:
        """What follows the command goes to the command, and its exit code comes back."""
        run.codes = {"pytest": 5}

        assert run("test", "-k", "uow or deps") == 5
        assert run.calls[-1] == ["python", *run.module.COMMANDS["test"][1], "-k", "uow or deps"]

    @pytest.mark.parametrize("failing", ["ruff", "mypy", "pyright"])
    def test_every_check_runs_though_one_fails(self, run: Bootstrap, failing: str, capsys: Any) -> None:
        """All checks run; the exit code is not zero and the failing one is named."""
        run("check")
        complete = len(run.calls) - 2
        run.calls.clear()
        run.codes = {failing: 1}

        assert run("check") == 1
        assert len(run.calls) == complete == 5
        assert failing in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["tset"], ["--help"]])
    def test_an_unknown_command(self, run: Bootstrap, arguments: list[str], capsys: Any) -> None:
        """The usage is shown, and nothing is run."""
        assert run(*arguments) == 1

        assert "run.py demo" in capsys.readouterr().err
        assert run.calls == []

    def test_any_folder_will_do(self, tmp_path: Path) -> None:
        """The script finds its own place."""
        done = subprocess.run([sys.executable, ROOT / "run.py"], cwd=tmp_path, capture_output=True, check=False)

        assert done.returncode == 1
        assert b"run.py demo" in done.stderr


class TestTour:
    """What `make demo TOUR_ONLY=1` runs."""

    def test_every_step_holds(self) -> None:
        """The exit code is 0, each step is OK, and nothing is wrong."""
        done = tour()

        assert done.returncode == 0, done.stdout + done.stderr
        assert "7 of 7 steps show what they claim." in done.stdout
        assert done.stdout.count("\n   OK\n") == 7
        assert "WRONG" not in done.stdout
        assert done.stderr == ""

    def test_a_step_that_does_not_hold(self) -> None:
        """Where an order gives a copy back, the steps that claim otherwise say so, and the exit code is 1."""
        done = tour(SABOTAGE)

        assert done.returncode == 1, done.stdout + done.stderr
        assert "5 of 7 steps show what they claim." in done.stdout
        assert "WRONG: copies left of 5" in done.stdout
        assert "claimed was 3" in done.stdout


def tour(preparation: str = "") -> subprocess.CompletedProcess[str]:
    """Run the demo's tour, after some preparation, as a process of its own."""
    lines = [
        "import sys",
        "from bookshop.demo import __main__ as demo",
        preparation,
        "sys.exit(demo.main(['--tour-only']))",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT / "examples", capture_output=True, text=True, timeout=90, check=False)
