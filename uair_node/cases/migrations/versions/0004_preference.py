"""Preferences: observations from accepted cases, and the preference with which each round was computed.

Revision ID: 0004 Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    op.create_table(
        "observations",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("case_id", sa.Integer(), sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("difference_mm", sa.Float(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("case_id", "kind"),
    )
    op.create_index("ix_observations_key", "observations", ["scope", "key"])
    with op.batch_alter_table("rounds") as table:
        table.add_column(sa.Column("prior", sa.JSON(), nullable=True))
        table.add_column(sa.Column("base_mm", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Undo this migration."""
    with op.batch_alter_table("rounds") as table:
        table.drop_column("base_mm")
        table.drop_column("prior")
    op.drop_index("ix_observations_key", "observations")
    op.drop_table("observations")
