"""schemathesis, asking an app for what its OpenAPI schema promises, and for what it forbids."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.python.asgi import shutdown_lifespans

GENERATION = {"database": "none", "deterministic": True}
CONFIG = {
    "seed": 20260101,
    "continue-on-failure": True,
}


class Run:
    """
    What schemathesis found in an app.

    Attributes:
        faults: Each fault, with the request and the answer.
        checks: The checks that looked at an answer.
        phases: The phases that ran.
        cases: How many requests were sent.
    """

    def __init__(self, app: FastAPI, examples: int = 25) -> None:
        config = SchemathesisConfig.from_dict({**CONFIG, "generation": {**GENERATION, "max-examples": examples}})
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
        self.faults: list[str] = []
        self.checks: set[str] = set()
        self.phases: set[str] = set()
        self.cases = 0
        for event in from_schema(schema).execute():
            assert not isinstance(event, events.NonFatalError | events.FatalError), vars(event)
            if isinstance(event, events.ScenarioFinished):
                self.phases.add(event.phase.value)
                self.cases += len(event.recorder.cases)
                self.faults += [*self._faults(event.recorder)]

    def _faults(self, recorder: Any) -> Iterator[str]:
        for case, checks in recorder.checks.items():
            answer = getattr(recorder.interactions.get(case), "response", None)
            for check in checks:
                self.checks.add(check.name)
                failed = check.failure_info
                if failed is not None and not excused(check.name, answer):
                    told = answer.content.decode() if answer is not None else ""
                    yield f"{check.name}: {failed.failure.title}\n{failed.code_sample}\n{told}"


def excused(check: str, answer: Any) -> bool:
    """Return whether an answer is right all the same: a precondition goes before the body that is invalid, too."""
    if check == "negative_data_rejection":
        return answer is not None and answer.status_code == 412
    return check == "positive_data_acceptance" and beyond_a_schema(answer)


def beyond_a_schema(answer: Any) -> bool:
    """Return whether what was refused is beyond any schema: rules, versions, the range of a column, decimals."""
    if answer.headers["content-type"] != ["application/problem+json"]:
        return False
    problem = json.loads(answer.content)
    if problem.get("detail", "").startswith("The header If-Match takes"):  # schemathesis tries 0, whatever the pattern
        return True
    if problem["type"].endswith((":rules-broken", ":invalid-value", ":precondition-failed")):
        return True
    return all("decimal" in error["detail"].lower() for error in problem.get("errors", [{"detail": ""}]))


@pytest.fixture(name="quiet")
def quiet_until_closed() -> Iterator[None]:
    """Keep what schemathesis and the apps log to themselves, and close the apps, which it would only do at the end."""
    logging.disable(logging.CRITICAL)
    yield
    shutdown_lifespans()
    logging.disable(logging.NOTSET)
