"""Picks per lesion: the target of each segment, and the targets that an answer takes from other candidates.

Revision ID: 0002 Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    with op.batch_alter_table("results") as table:
        table.add_column(sa.Column("targets", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
    with op.batch_alter_table("selections") as table:
        table.add_column(sa.Column("per_target", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Undo this migration."""
    with op.batch_alter_table("selections") as table:
        table.drop_column("per_target")
    with op.batch_alter_table("results") as table:
        table.drop_column("targets")
