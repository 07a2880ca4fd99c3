"""The fingerprint of the secret for patient keys. When a node starts, it replaces older digests by keys.

Revision ID: 0013 Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    op.create_table(
        "patient_secret",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Undo this migration. Keyed digests stay, but an earlier version finds no patient by them."""
    op.drop_table("patient_secret")
