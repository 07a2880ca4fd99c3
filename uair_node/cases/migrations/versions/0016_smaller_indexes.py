"""Indexes for counts and for rare rows: waiting deliveries, loose instances, actions on a case.

Revision ID: 0016 Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_LOOSE = sa.text("status <> 'stored'")


def upgrade() -> None:
    """Apply this migration.

    SQLite used the old index of instances for each query of a series' stored instances.
    """
    op.drop_index("ix_instances_status_received", "instances")
    op.create_index(
        "ix_instances_loose_received",
        "instances",
        ["received_at"],
        sqlite_where=_LOOSE,
        postgresql_where=_LOOSE,
    )
    op.drop_index("ix_deliveries_destination_state", "deliveries")
    op.create_index("ix_deliveries_state_destination", "deliveries", ["state", "destination", "created_at"])
    op.drop_index("ix_selections_outcome", "selections")
    op.create_index("ix_selections_outcome_verb_code", "selections", ["outcome", "verb", "code"])
    op.create_index("ix_access_records_subject", "access_records", ["subject"])


def downgrade() -> None:
    """Undo this migration."""
    op.drop_index("ix_access_records_subject", "access_records")
    op.drop_index("ix_selections_outcome_verb_code", "selections")
    op.create_index("ix_selections_outcome", "selections", ["outcome"])
    op.drop_index("ix_deliveries_state_destination", "deliveries")
    op.create_index("ix_deliveries_destination_state", "deliveries", ["destination", "state", "created_at"])
    op.drop_index("ix_instances_loose_received", "instances")
    op.create_index("ix_instances_status_received", "instances", ["status", "received_at"])
