"""Warnings about the series of a case.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    with op.batch_alter_table("cases") as table:
        table.add_column(sa.Column("warnings", sa.Text(), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    """Undo this migration."""
    with op.batch_alter_table("cases") as table:
        table.drop_column("warnings")
