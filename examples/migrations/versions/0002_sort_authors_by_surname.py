"""Sort authors by surname: a column that is required, and has to be filled first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# The table as it is in the middle of this migration. The models of the app will go on, this file will not.
author = sa.table(
    "author", sa.column("id", sa.Integer), sa.column("name", sa.String), sa.column("sort_name", sa.String)
)


def upgrade() -> None:
    """Add the column, fill it, require it."""
    op.add_column("author", sa.Column("sort_name", sa.String(100), nullable=True))
    connection = op.get_bind()
    for key, name in connection.execute(sa.select(author.c.id, author.c.name)).all():
        connection.execute(author.update().where(author.c.id == key).values(sort_name=sorted_by(name)))
    with op.batch_alter_table("author") as table:
        table.alter_column("sort_name", existing_type=sa.String(100), nullable=False)
        table.create_index(op.f("ix_author_sort_name"), ["sort_name"])


def downgrade() -> None:
    """Drop the column; what it says is in the name."""
    with op.batch_alter_table("author") as table:
        table.drop_index(op.f("ix_author_sort_name"))
        table.drop_column("sort_name")


def sorted_by(name: str) -> str:
    """Return "Austen, Jane" for "Jane Austen", and a single name as it is."""
    first, _, last = name.rpartition(" ")
    return f"{last}, {first}" if first else name
