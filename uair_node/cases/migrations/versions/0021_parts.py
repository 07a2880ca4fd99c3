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
    """Apply this migration."""
    op.add_column("rounds", sa.Column("parts", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Undo this migration."""
    # No batch: it would create the table again. On SQLite, rows that refer to the table forbid that.
    op.drop_column("rounds", "parts")
