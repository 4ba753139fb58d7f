"""Sentry gets each bug once, nothing that is not one, and nothing of what is in requests and rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return status and events of each kind of error; in a process of its own, because Sentry changes Starlette."""
    script, examples = TESTS / "recipes" / "errors_for_sentry.py", TESTS.parent / "examples"
    command = [sys.executable, str(script), str(TESTS), str(examples)]
    where = tmp_path_factory.mktemp("sentry")
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize(
    ("path", "kind"),
    [("bug", "RuntimeError"), ("forgotten", "UncommittedChangesError"), ("sql", "OperationalError")],
)
def test_a_bug_arrives_once(found: dict[str, Any], path: str, kind: str) -> None:
    """An unhandled error, and one that fastkit answers by itself: one event, with class and request id."""
    (event,) = found[path]["events"]

    assert found[path]["status"] == 500
    assert event["exception"]["values"][-1]["type"] == kind
    assert event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert event["tags"]["request_id"] == path


@pytest.mark.parametrize(
    ("path", "status"), [("twice", 409), ("missing", 404), ("busy", 503), ("number", 422), ("nowhere", 404)]
)
def test_what_is_no_bug_does_not_arrive(found: dict[str, Any], path: str, status: int) -> None:
    """Answers of 4xx, and a database that is busy."""
    assert found[path] == {"status": status, "events": []}


def test_nothing_of_requests_and_rows_arrives(found: dict[str, Any]) -> None:
    """The secret stood in path, query, headers, messages, local variables and rows."""
    assert "s3cret-value" not in json.dumps(found)
