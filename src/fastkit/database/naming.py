"""Names for constraints, so that an error can say which one was broken and a migration can drop it."""

from __future__ import annotations

NAMING_CONVENTION: dict[str, str] = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""
`MetaData(naming_convention=NAMING_CONVENTION)`: each constraint and index gets a name that tells its table and columns.

Source: docs.sqlalchemy.org/en/21/core/constraints.html, "Configuring Constraint Naming Conventions".
"""
