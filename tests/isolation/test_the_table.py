"""
C22: what each isolation level gives, measured through units of work, is what docs/isolation.md says.

To write the tables of the page anew, from the databases that answer:
`FASTKIT_WRITE_TABLES=1 python -m pytest tests/isolation/test_the_table.py`
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from pathlib import Path

import pytest
from isolation.anomalies import ANOMALIES, HEAD, LEVELS, SHOWN, about, measure
from servers import DRIVERS, Driver
from sqlalchemy import create_engine, text

PAGE = Path(__file__).parents[2] / "docs" / "isolation.md"
WRITES = os.environ.get("FASTKIT_WRITE_TABLES") == "1"
SNAPSHOT_ISOLATION = "innodb_snapshot_isolation"
SECTIONS = ("SQLite", "PostgreSQL", "MariaDB", f"MariaDB with {SNAPSHOT_ISOLATION}")
MEASURED_IN_FULL = {"sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+asyncmy"}
WRITTEN = {"sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy"}
SAMPLE = {"Read skew", "Lost update", "Lost update, `for_update()`", "Write skew", "Write skew by new rows"}

LOCKED = {
    "Lost update, `for_update()`",
    "Lost update, `for_update()` after a plain read",
    "Lost update, atomic UPDATE",
    "Write skew, `for_update()`",
    "Write skew by new rows, `for_update()` on the customer",
}


def section(name: str) -> re.Pattern[str]:
    """Return the pattern of what is generated for a database, between its two marks."""
    return re.compile(rf"(<!-- measured: {re.escape(name)} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def told(name: str) -> list[str]:
    """Return the table of the page for a database: its head and its rows."""
    found = section(name).search(PAGE.read_text())
    assert found, f"{PAGE.name} has no place for {name}"
    return [line for line in found[2].splitlines() if line.startswith("|")]


def name_in(line: str) -> str:
    """Return the anomaly that a row is about."""
    return line.removeprefix("| ").split(" | ")[0]


def compare(name: str, rows: list[str], driver: Driver, server: str) -> None:
    """Fail with a diff if rows that were measured are not those of the page; or write them into it."""
    if WRITES:
        lines = "\n".join(["", server, "", *HEAD, *rows, "", ""])
        PAGE.write_text(section(name).sub(lambda found: found[1] + lines + found[3], PAGE.read_text()))
    page, left_out = told(name), {anomaly.name for anomaly in ANOMALIES} - {name_in(row) for row in rows}
    page = [line for line in page if name_in(line) not in left_out]
    if difference := list(difflib.unified_diff(page, [*HEAD, *rows], PAGE.name, "measured", lineterm="", n=0)):
        pytest.fail("\n".join([f"{name} does not do what the page says. {server}", *difference]), pytrace=False)


def databases(driver: Driver, url: str, folder: Path) -> list[str]:
    """Return a database for each level: on SQLite, where a wait can only be told by its length, one for each."""
    if driver.server != "SQLite":
        return [url] * len(LEVELS)
    files = [folder / f"{number}.db" for number, _ in enumerate(LEVELS)]
    for file in files:
        shutil.copy(folder / "shop.db", file)
    return [f"{driver.name}:///{file}" for file in files]


def has_snapshot_isolation(url: str) -> bool:
    """Return whether this MariaDB knows the setting."""
    engine = create_engine(url.replace("asyncmy", "pymysql"))
    with engine.connect() as connection:
        found = connection.execute(text(f"SHOW VARIABLES LIKE '{SNAPSHOT_ISOLATION}'")).first()
    engine.dispose()
    return found is not None


def test_c22_the_table_is_what_the_database_does(driver: Driver, url: str, tmp_path: Path) -> None:
    """Each anomaly at each level, played anew; a sample of them with the second driver and in the other colour."""
    if WRITES and driver.name not in WRITTEN:
        pytest.skip("one driver of each database writes")
    setting = None
    if driver.server == "MariaDB" and has_snapshot_isolation(url):
        setting = f"SET SESSION {SNAPSHOT_ISOLATION}=OFF"
    chosen = [each for each in ANOMALIES if driver.name in MEASURED_IN_FULL or each.name in SAMPLE]

    rows = measure(driver, databases(driver, url, tmp_path), setting, chosen)

    compare(driver.server, rows, driver, about(driver, url, setting))


@pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.name == "mariadb+asyncmy"], indirect=True, ids=lambda driver: driver.id
)
def test_c22_the_table_of_mariadb_with_snapshot_isolation(driver: Driver, url: str) -> None:
    """The same where MariaDB is told to refuse an update of a row that was changed after the snapshot."""
    if not has_snapshot_isolation(url):
        pytest.skip(f"this MariaDB does not know {SNAPSHOT_ISOLATION}")
    setting = f"SET SESSION {SNAPSHOT_ISOLATION}=ON"

    rows = measure(driver, [url] * len(LEVELS), setting)

    compare(SECTIONS[-1], rows, driver, about(driver, url, setting))


@pytest.mark.parametrize("name", SECTIONS)
def test_c22_what_the_page_recommends_prevents(name: str) -> None:
    """SERIALIZABLE shows nothing; at the default level a lock or an atomic UPDATE is enough for rows that exist."""
    rows = [line.strip("| ").split(" | ") for line in told(name)[2:]]

    assert [cells[0] for cells in rows] == [anomaly.name for anomaly in ANOMALIES]
    assert [cells[0] for cells in rows if cells[-1] == SHOWN] == []
    assert [cells[0] for cells in rows if cells[0] in LOCKED and cells[1] == SHOWN] == []
