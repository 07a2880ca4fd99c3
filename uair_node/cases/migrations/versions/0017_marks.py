"""What a reader's marks were understood as.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("selections") as table:
        table.add_column(sa.Column("marks", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take back."""
    # In place: a batch would make the table anew, which the rows that refer to it forbid on SQLite.
    op.drop_column("selections", "marks")
