"""Exports of many rows take the memory of one batch; FASTKIT_SLOW=1, as `make faults` sets it, exports a million."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Driver

SLOW = os.environ.get("FASTKIT_SLOW") == "1"
ROWS, MOST = (1_000_000, 50) if SLOW else (100_000, 10)  # MB
SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the most memory that was used")
@pytest.mark.parametrize("form", ["json", "ndjson", "csv"] if SLOW else ["csv"])
def test_an_export_takes_the_memory_of_a_batch(driver: Driver, url: str, form: str) -> None:
    """However many rows there are, in both colours and each form."""
    if driver.server == "MariaDB":
        pytest.skip("the rows are made by SQL of the others")
    script = Path(__file__).with_name("exporter.py")
    done = subprocess.run(
        [sys.executable, str(script), url, str(ROWS), form],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)

    assert figures["lines"] == ROWS + (form == "csv")
    assert figures["extra"] < MOST, figures
