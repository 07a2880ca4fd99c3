"""At most one effective selection per round, and the round whose candidates a selection names.

Revision ID: 0008 Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_EFFECTIVE = sa.text("outcome = 'effective'")


def upgrade() -> None:
    """Apply this migration. Selections of earlier versions name candidates of the round that they answer."""
    with op.batch_alter_table("selections") as table:
        table.add_column(sa.Column("candidates_round", sa.Integer(), nullable=True))
    op.execute("UPDATE selections SET candidates_round = round_number")
    _settle_duplicates()
    op.create_index(
        "ix_selections_effective",
        "selections",
        ["case_id", "round_number"],
        unique=True,
        sqlite_where=_EFFECTIVE,
        postgresql_where=_EFFECTIVE,
    )


def downgrade() -> None:
    """Undo this migration. Answers that it marked as replaced stay replaced."""
    op.drop_index("ix_selections_effective", "selections")
    with op.batch_alter_table("selections") as table:
        table.drop_column("candidates_round")


def _settle_duplicates() -> None:
    """Keep a single effective selection for each round, and mark other effective selections as replaced.

    The selection that ended an accepted case stays, else the selection that started the next round, else the
    newest.
    """
    op.execute(
        """
        UPDATE selections SET outcome = 'replaced' WHERE id IN (
            SELECT id FROM (
                SELECT s.id AS id, ROW_NUMBER() OVER (
                    PARTITION BY s.case_id, s.round_number
                    ORDER BY
                        CASE WHEN s.verb = 'accept' AND c.state = 'ACCEPTED' THEN 0 ELSE 1 END,
                        CASE WHEN r.id IS NULL THEN 1 ELSE 0 END,
                        s.id DESC
                ) AS place
                FROM selections s
                JOIN cases c ON c.id = s.case_id
                LEFT JOIN rounds r ON r.selection_id = s.id
                WHERE s.outcome = 'effective'
            ) ranked WHERE place > 1
        )
        """
    )
