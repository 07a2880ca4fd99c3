"""UIDs depend on content: digests of the inputs of a round's results, and of the objects that readers send.

Revision ID: 0007 Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_EMPTY = sa.text("''")


def upgrade() -> None:
    """Apply this migration. Earlier cases and their computed rounds keep the scheme of their UIDs."""
    with op.batch_alter_table("cases") as table:
        table.add_column(sa.Column("uid_scheme", sa.Integer(), nullable=False, server_default=sa.text("1")))
    with op.batch_alter_table("rounds") as table:
        table.add_column(
            sa.Column("content_digest", sa.String(length=64), nullable=False, server_default=_EMPTY)
        )
    with op.batch_alter_table("selections") as table:
        table.add_column(
            sa.Column("evidence_sha256", sa.String(length=64), nullable=False, server_default=_EMPTY)
        )


def downgrade() -> None:
    """Undo this migration."""
    for name, column in (
        ("selections", "evidence_sha256"),
        ("rounds", "content_digest"),
        ("cases", "uid_scheme"),
    ):
        with op.batch_alter_table(name) as table:
            table.drop_column(column)
