"""The parts of targets for which a reader can choose a candidate separately.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("rounds") as table:
        table.add_column(sa.Column("parts", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("rounds") as table:
        table.drop_column("parts")
