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
    # In place: a batch would make the table anew, which the rows that refer to it forbid on SQLite.
    op.drop_column("rounds", "parts")
