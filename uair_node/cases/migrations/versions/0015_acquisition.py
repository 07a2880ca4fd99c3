"""The acquisition of a case, if its series has several.

Revision ID: 0015 Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration."""
    with op.batch_alter_table("cases") as table:
        table.add_column(
            sa.Column("acquisition", sa.String(255), nullable=False, server_default=sa.text("''"))
        )


def downgrade() -> None:
    """Undo this migration."""
    # No batch: it would create the table again. On SQLite, rows that refer to the table forbid that.
    op.drop_column("cases", "acquisition")
