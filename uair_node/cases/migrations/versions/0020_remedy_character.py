"""Columns have the names that the program uses: `remedy` of a code, `character` of a candidate.

Revision ID: 0020
Revises: 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_RENAMED = (("cases", "mend", "remedy"), ("selections", "mend", "remedy"), ("results", "trait", "character"))


def upgrade() -> None:
    """Apply this migration."""
    for table, old, new in _RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def downgrade() -> None:
    """Undo this migration."""
    for table, old, new in _RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}")
