"""Warnings about the series of a case.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("cases") as table:
        table.add_column(sa.Column("warnings", sa.Text(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("cases") as table:
        table.drop_column("warnings")
