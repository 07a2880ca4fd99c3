"""Earlier cases of a patient are found by the digest of the Patient ID.

Revision ID: 0006 Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this migration. Earlier cases have no key, so they are not found as priors."""
    with op.batch_alter_table("cases") as table:
        table.add_column(
            sa.Column("patient_key", sa.String(length=64), nullable=False, server_default=sa.text("''"))
        )
        table.create_index("ix_cases_patient_key", ["patient_key"])


def downgrade() -> None:
    """Undo this migration."""
    with op.batch_alter_table("cases") as table:
        table.drop_index("ix_cases_patient_key")
        table.drop_column("patient_key")
