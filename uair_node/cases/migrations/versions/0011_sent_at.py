"""The time at which a delivery was first sent. A peer's "duplicate" confirms only a delivery that was sent.

Revision ID: 0011 Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration. Deliveries with an earlier attempt count as sent."""
    op.add_column("deliveries", sa.Column("sent_at", sa.DateTime(), nullable=True))
    op.execute(
        "UPDATE deliveries SET sent_at = created_at "
        "WHERE attempts > 0 OR reason <> '' OR state IN ('stored', 'confirmed')"
    )


def downgrade() -> None:
    """Undo this migration."""
    op.drop_column("deliveries", "sent_at")
