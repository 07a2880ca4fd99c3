"""Storage commitment: Transaction UID and time of each delivery's request.

Revision ID: 0003 Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    with op.batch_alter_table("deliveries") as table:
        table.add_column(sa.Column("transaction_uid", sa.String(64), nullable=False, server_default=""))
        table.add_column(sa.Column("commitment_asked_at", sa.DateTime(), nullable=True))
        table.create_index("ix_deliveries_transaction_uid", ["transaction_uid"])


def downgrade() -> None:
    """Undo this migration."""
    with op.batch_alter_table("deliveries") as table:
        table.drop_index("ix_deliveries_transaction_uid")
        table.drop_column("commitment_asked_at")
        table.drop_column("transaction_uid")
