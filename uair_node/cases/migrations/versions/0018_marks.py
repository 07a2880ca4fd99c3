"""The meaning of a reader's marks.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    with op.batch_alter_table("selections") as table:
        table.add_column(sa.Column("marks", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Undo this migration."""
    # No batch: it would create the table again. On SQLite, rows that refer to the table forbid that.
    op.drop_column("selections", "marks")
