"""Free books, and same titles: constraints that give way to others, by their names."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Let two authors write books of one title, and books cost nothing."""
    with op.batch_alter_table("book") as table:
        table.drop_constraint(op.f("uq_book_title"), type_="unique")
        table.create_unique_constraint(op.f("uq_book_author_id_title"), ["author_id", "title"])
        table.drop_constraint(op.f("ck_book_price"), type_="check")
        table.create_check_constraint(op.f("ck_book_price"), "price >= 0")


def downgrade() -> None:
    """
    Go back; it fails where free books or same titles are stored.

    PostgreSQL and SQLite then change nothing; MariaDB stays where it was in the middle, as ever.
    """
    with op.batch_alter_table("book") as table:
        table.drop_constraint(op.f("ck_book_price"), type_="check")
        table.create_check_constraint(op.f("ck_book_price"), "price > 0")
        table.drop_constraint(op.f("uq_book_author_id_title"), type_="unique")
        table.create_unique_constraint(op.f("uq_book_title"), ["title"])
