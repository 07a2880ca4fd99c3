"""The number of connections and associations that the listener refused, by reason.

Revision ID: 0014 Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    op.create_table(
        "listener_refusals",
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("outcome"),
    )


def downgrade() -> None:
    """Undo this migration."""
    op.drop_table("listener_refusals")
