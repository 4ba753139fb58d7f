"""Moments are the same moments on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import mysql, postgresql, sqlite

from fastkit.models import UtcDateTime

EAST = timezone(timedelta(hours=2))
NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "dialect", [sqlite.dialect(), mysql.dialect(), postgresql.dialect()], ids=lambda each: each.name
)
def test_a_moment_of_another_zone(dialect: object) -> None:
    """It is kept in UTC, and comes back in UTC whatever the connection's zone is."""
    kind = UtcDateTime()
    kept = kind.process_bind_param(NOON.astimezone(EAST), dialect)  # type: ignore[arg-type]

    assert kept is not None
    assert kept.replace(tzinfo=None) == NOON.replace(tzinfo=None)
    assert kind.process_result_value(kept, dialect) == NOON  # type: ignore[arg-type]
    shown = kind.process_result_value(NOON.astimezone(EAST), dialect)  # type: ignore[arg-type]
    assert shown is not None
    assert shown.utcoffset() == timedelta(0)
    assert kind.process_bind_param(None, dialect) is None  # type: ignore[arg-type]
    assert kind.process_result_value(None, dialect) is None  # type: ignore[arg-type]
