"""The console's audit: the pages that each user opened, and the actions of each user.

Revision ID: 0005 Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    op.create_table(
        "access_records",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=False),
    )
    op.create_index("ix_access_records_at", "access_records", ["at"])


def downgrade() -> None:
    """Undo this migration."""
    op.drop_index("ix_access_records_at", "access_records")
    op.drop_table("access_records")
