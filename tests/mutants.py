"""
Break each promise on purpose, one small change at a time, and see its test go red: `python tests/mutants.py`.

`--write` puts the table of clauses and tests into docs/promises.md; `--only C13` tries some of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "promises.md"
BEGIN, END = "<!-- mutants -->\n", "<!-- end -->"


@dataclass(frozen=True)
class Mutant:
    """
    One way to break a promise.

    Attributes:
        clause: Which promise.
        breaks: What the change does, in words for the docs.
        file: Where, below src/fastkit.
        old: What stands there, exactly once.
        new: What is put in its place.
        test: The test that must go red, "file::name" below tests.
        drivers: Which of its drivers are run, as pytest's -k takes it.
    """

    clause: str
    breaks: str
    file: str
    old: str
    new: str
    test: str
    drivers: str = "sqlite"


MUTANTS = (
    Mutant(
        "C1",
        "a block commits on a clean exit",
        "uow/_life.py",
        "        elif commits:\n            self._commit_or_roll_back()",
        "        elif commits or error is None:\n            self._commit_or_roll_back()",
        "uow/test_scope.py::test_c2_forgotten_commit_is_told",
    ),
    Mutant(
        "C1",
        "commit() does not end the block",
        "uow/_life.py",
        "        if self._phase is Phase.OPEN:\n            self._phase = Phase.OVER",
        "        if self._phase is Phase.OPEN:\n            pass",
        "uow/test_scope.py::test_c1_commit_ends_the_block",
    ),
    Mutant(
        "C2",
        "flushed rows are forgotten in silence",
        "database/_listeners.py",
        "            transaction.wrote(verb, states)",
        "            pass",
        "uow/test_scope.py::test_c2_forgotten_commit_is_told",
    ),
    Mutant(
        "C2",
        "statements that write are taken for reads",
        "database/_statements.py",
        "    if isinstance(statement, Insert | Update | Delete):",
        "    if isinstance(statement, Insert):",
        "uow/test_scope.py::test_c2_forgotten_commit_is_told",
    ),
    Mutant(
        "C2",
        "a commit around a block that a generator left open is let through",
        "uow/_state.py",
        "        if frame in self._frames and self._frames[-1] is not frame:",
        "        if False:",
        "uow/test_behind_the_unit.py::test_c1_a_commit_around_a_block_that_was_left_open_is_refused",
        "aiosqlite",
    ),
    Mutant(
        "C2",
        "a text that ends the transaction is let through",
        "database/session.py",
        "            if is_text(statement) and (word :=",
        "            if False and (word :=",
        "uow/test_behind_the_unit.py::test_c2_a_text_that_ends_the_transaction_is_refused",
    ),
    Mutant(
        "C3",
        "objects of a rolled-back block are expired",
        "database/_session_life.py",
        "                self.detach_all()  # here too",
        "                pass  # here too",
        "uow/test_scope.py::test_c3_objects_keep_their_values_when_the_rollback_itself_fails",
    ),
    Mutant(
        "C3",
        "an exception commits",
        "uow/_life.py",
        "        elif error is not None:\n            self._roll_back_after(error)",
        "        elif error is not None:\n            self._commit()",
        "uow/test_scope.py::test_c3_every_exception_rolls_back_and_propagates",
    ),
    Mutant(
        "C3",
        "objects of a rolled-back savepoint are left to be loaded lazily",
        "database/_session_life.py",
        "            read_again(self, loaded)\n",
        "            pass\n",
        "uow/test_savepoints.py::test_c3_objects_of_a_rolled_back_savepoint_are_as_the_database_has_them",
        "aiosqlite",
    ),
    Mutant(
        "C4",
        "a block takes a connection when it opens",
        "uow/_life.py",
        "            self._guarded.open(options.mode)\n",
        "            self._guarded.open(options.mode)\n            self._is_async or self._guarded.connection()\n",
        "uow/test_scope.py::test_c4_no_connection_before_the_first_statement",
    ),
    Mutant(
        "C5",
        "a write outside a block is let through",
        "database/session.py",
        "        elif writes:\n            self._refuse_outside()",
        "        elif writes and self._closed:\n            self._refuse_outside()",
        "uow/test_scope.py::test_c5_writes_need_an_open_block",
    ),
    Mutant(
        "C5",
        "the first read in a block does not refresh",
        "database/session.py",
        "            if self.open_transaction.stale and not writes",
        "            if self.open_transaction.stale and writes",
        "uow/test_scope.py::test_c5_first_read_inside_a_block_refreshes",
    ),
    Mutant(
        "C5",
        "a read outside a block leaves its connection in autocommit",
        "database/_connection.py",
        "        dbapi.autocommit = False\n",
        "        pass\n",
        "database/test_rows.py::test_c5_a_read_outside_a_block_is_in_autocommit",
        "asyncpg",
    ),
    Mutant(
        "C6",
        "a nested commit() ends the transaction",
        "uow/_life.py",
        "        if self._depth > 1:\n            self._guarded.flush()\n            return",
        "        if self._depth > 2:\n            self._guarded.flush()\n            return",
        "uow/test_nesting.py::test_c6_a_nested_commit_flushes_only",
    ),
    Mutant(
        "C7",
        "an exception that leaves a nested block dooms nothing",
        "uow/_life.py",
        "        if error is not None:\n            self._transaction.doom(error)",
        "        if error is None and not commits:\n            pass",
        "uow/test_nesting.py::test_c7_a_swallowed_exception_of_a_nested_block_dooms",
    ),
    Mutant(
        "C8",
        "an exception keeps what was done in the savepoint",
        "database/_session_life.py",
        "                savepoint.rollback()",
        "                savepoint.commit()",
        "uow/test_savepoints.py::test_c8_an_exception_rolls_back_to_the_savepoint_and_the_block_goes_on",
    ),
    Mutant(
        "C8",
        "hooks of a rolled-back savepoint stay",
        "uow/_savepoints.py",
        "        del self._hooks[savepoint.hooks :]\n",
        "",
        "uow/test_savepoints.py::test_c18_hooks_of_a_rolled_back_savepoint_never_run",
    ),
    Mutant(
        "C9",
        "options of a nested block are ignored",
        "uow/_life.py",
        "            options.check_joins(self._transaction.mode)\n",
        "",
        "uow/test_nesting.py::test_c9_a_nested_block_cannot_ask_for_something_else",
    ),
    Mutant(
        "C10",
        "a swallowed error of the database can be committed",
        "database/_transaction.py",
        "        if self.cause_of_doom is not None:\n            raise",
        "        if self.cause_of_doom is not None and self.in_savepoint:\n            raise",
        "uow/test_nesting.py::test_c10_a_swallowed_database_error_can_never_be_committed",
        "sqlite or asyncpg",
    ),
    Mutant(
        "C11",
        "COMMIT is not shielded from cancellation",
        "uow/_effects.py",
        "        await shielded(settle_and_work(), deadline=self._database.timeouts.commit, abort=abort)",
        "        await settle_and_work()",
        "uow/test_commit.py::test_c11_a_cancellation_cannot_cut_a_commit_in_two",
        "aiosqlite or asyncpg",
    ),
    Mutant(
        "C11",
        "a commit that is never answered waits for ever",
        "uow/_effects.py",
        "deadline=self._database.timeouts.commit, abort=abort)",
        "deadline=600, abort=abort)",
        "uow/test_commit.py::test_c11_a_commit_that_is_never_answered_ends_at_the_deadline",
        "aiosqlite",
    ),
    Mutant(
        "C12",
        "no ROLLBACK follows a failed COMMIT",
        "database/_sqlite.py",
        "        dbapi.rollback()  # SQLite keeps",
        "        pass  # SQLite keeps",
        "uow/test_commit.py::test_c12_holds_for_plain_sessions_of_the_database_too",
    ),
    Mutant(
        "C13",
        "a lost answer to COMMIT counts as rolled back",
        "uow/_life.py",
        "        unknown = (transaction.commit_sent or was_cut) and not _says_no(error)",
        "        unknown = False",
        "uow/test_commit.py::test_c11_a_connection_lost_during_commit_is_unknown",
    ),
    Mutant(
        "C13",
        "PostgreSQL is not asked what became of the transaction",
        "uow/_life.py",
        "self._database.ledger.ask_whether_committed(number) if number else None",
        "None",
        "faults/test_confirm.py::test_c13_a_confirmed_commit_is_committed",
        "asyncpg",
    ),
    Mutant(
        "C14",
        "a failed commit of transaction() is swallowed",
        "uow/_life.py",
        "        if not unknown:\n            raise error",
        "        if not unknown:\n            return",
        "deps/test_transaction.py::test_c14_a_commit_that_fails_is_a_problem_and_stores_nothing",
    ),
    Mutant(
        "C15",
        "each dependency gets a unit of its own",
        "deps/units.py",
        "            yield shared[unit, database]\n            return\n        async with unit.serving",
        "            pass\n        async with unit.serving",
        "deps/test_units.py::test_c15_mixed_dependency_scopes_share_the_unit",
        "test",
    ),
    Mutant(
        "C16",
        "a lost race is not run again",
        "database/retry.py",
        "        if not self._may_help(error):\n            return None",
        "        return None",
        "uow/test_running.py::test_c16_a_lost_race_runs_again",
    ),
    Mutant(
        "C16",
        "work that may run again runs inside another block",
        "uow/_life.py",
        "        if self._database.ledger.is_held_here():\n",
        "        if False:\n",
        "uow/test_running.py::test_c16_work_inside_another_block_is_refused",
        "asyncpg",
    ),
    Mutant(
        "C16",
        "a block that has committed is run again",
        "uow/_life.py",
        "        return self._outcome.status is not Status.ROLLED_BACK",
        "        return False",
        "uow/test_running.py::test_c16_work_that_has_committed_is_never_repeated",
    ),
    Mutant(
        "C17",
        "a hook that fails stops the next",
        "uow/hooks.py",
        "        return True",
        "        return False",
        "uow/test_hooks.py::test_c17_a_failing_hook_stops_nothing",
    ),
    Mutant(
        "C18",
        "a rollback is taken for a commit, so its hooks run",
        "uow/_life.py",
        "self._end(COMMITTED if transaction is not None and transaction.committed else outcome)",
        "self._end(COMMITTED)",
        "uow/test_hooks.py::test_c18_hooks_of_a_rolled_back_block_never_run",
    ),
    Mutant(
        "C19",
        "a loaded object records for itself alone",
        "database/_listeners.py",
        "    if isinstance(session, GuardedSession):\n        session.recorder.take_over(instance)",
        "    pass",
        "uow/test_events.py::test_c19_no_event_is_lost",
    ),
    Mutant(
        "C20",
        "another task may end the block",
        "uow/_state.py",
        "        if self._owner is not None and self._owner is not self._me():",
        "        if self._owner is None:",
        "uow/test_concurrency.py::test_c20_a_block_belongs_to_who_opened_it",
    ),
    Mutant(
        "C20",
        "overlapping use is let through",
        "database/_guard.py",
        "            if not self._lock.acquire(blocking=False):\n                self.refuse()\n",
        "",
        "uow/test_concurrency.py::test_c20_overlapping_use_in_a_block_raises",
    ),
    Mutant(
        "C21",
        "fan-outs may take the whole pool",
        "database/_fan_out.py",
        "capacity is None else capacity // 2",
        "capacity is None else capacity * 4",
        "uow/test_gather.py::test_c21_branches_take_at_most_half_of_the_pool",
    ),
    Mutant(
        "C21",
        "branches do not share a snapshot",
        "database/_fan_out.py",
        '        try:\n            statement = text(f"SET TRANSACTION SNAPSHOT',
        '        return True\n        try:\n            statement = text(f"SET TRANSACTION SNAPSHOT',
        "uow/test_gather.py::test_c21_all_branches_see_the_same_moment",
        "asyncpg",
    ),
    Mutant(
        "C22",
        "the database does not enforce a read-only block",
        "database/_sqlite.py",
        "PRAGMA query_only=ON",
        "PRAGMA query_only=0",
        "uow/test_modes.py::test_c22_a_read_only_block_refuses_every_write",
    ),
    Mutant(
        "C22",
        "the isolation level is not sent",
        "database/_postgresql.py",
        "        if mode.isolation:",
        "        if mode.isolation and mode.timeout:",
        "uow/test_modes.py::test_c22_the_isolation_level_holds_for_one_block",
        "asyncpg",
    ),
    Mutant(
        "C23",
        "a child process uses the connections of its parent",
        "database/_ledger.py",
        "        self._engine.dispose(close=False)\n",
        "",
        "database/test_fork.py::test_c23_a_child_has_connections_of_its_own",
        "psycopg",
    ),
    Mutant(
        "C23",
        "a connection whose taking is cancelled is left to the garbage collector",
        "database/_connection.py",
        "                taken.invalidate()",
        "                pass",
        "faults/test_cancelling.py::test_c23_cancelled_at_each_step",
        "reads and psycopg_async",
    ),
    Mutant(
        "C24",
        "a unique violation is not recognised",
        "database/_diagnostics.py",
        'UniqueError: "23505"',
        'ConstraintError: "23505"',
        "database/test_translate.py::test_c24_unique_names_constraint_and_columns",
        "test",
    ),
    Mutant(
        "C25",
        "get asks again for what the block has read",
        "database/session.py",
        "            found = super().get(entity, ident, **more)\n            if (",
        "            found = super().get(entity, ident, populate_existing=True, **more)\n            if (",
        "test_statement_budget.py::test_c25_get_of_what_this_block_has_read",
    ),
)


def survives(mutant: Mutant) -> str | None:
    """Return why a mutant is not caught by its test, or None if the test goes red."""
    source = (ROOT / "src" / "fastkit" / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        return f"what it changes stands {source.count(mutant.old)} times in {mutant.file}"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "fastkit"
        shutil.copytree(ROOT / "src" / "fastkit", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / mutant.file).write_text(source.replace(mutant.old, mutant.new))
        code, tail = _run(mutant, folder)
    return None if code == 1 else f"exit code {code}: {tail}"


def is_green(mutant: Mutant) -> str | None:
    """Return why the test does not pass on the source as it is, or None."""
    code, tail = _run(mutant, str(ROOT / "src"))
    return None if code == 0 else f"exit code {code}: {tail}"


def _run(mutant: Mutant, source: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "--timeout=60"]
    command += [f"tests/{mutant.test}", "-k", mutant.drivers]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]


def table() -> str:
    """Return the table for the docs."""
    rows = [f"| {each.clause} | {each.breaks} | `{each.test}` |" for each in MUTANTS]
    return "\n".join(["| clause | broken on purpose: | this test goes red |", "|---|---|---|", *rows, ""])


def write() -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


def main() -> int:
    """Try all mutants, two at a time; return 0 if each is caught."""
    parser = argparse.ArgumentParser(description="Break each promise and see its test go red.")
    parser.add_argument("--only", default="", help="a clause, such as C13")
    parser.add_argument("--green", action="store_true", help="see that the tests pass on the source as it is")
    parser.add_argument("--write", action="store_true", help="only write the table into docs/promises.md")
    asked = parser.parse_args()
    if asked.write:
        write()
        return 0
    chosen = [each for each in MUTANTS if asked.only in {"", each.clause}]
    with ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(is_green if asked.green else survives, chosen))
    for mutant, fault in zip(chosen, faults, strict=True):
        print(  # noqa: T201 - for whoever runs it
            f"{mutant.clause:4} {'ok      ' if fault is None else 'NOT SEEN'} {mutant.breaks}: {fault or mutant.test}"
        )
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
