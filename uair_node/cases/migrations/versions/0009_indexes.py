"""Indexes for fast pages, metrics, retention and deliveries with 100,000 cases.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ADDED = (
    ("ix_case_instances_instance_id", "case_instances", ["instance_id"]),
    ("ix_cases_calling_ae_last", "cases", ["calling_ae", "last_instance_at"]),
    ("ix_cases_state_code", "cases", ["state", "code"]),
    ("ix_cases_state_updated", "cases", ["state", "updated_at"]),
    ("ix_deliveries_confirmed_at", "deliveries", ["confirmed_at"]),
    ("ix_deliveries_destination_state", "deliveries", ["destination", "state", "created_at"]),
    ("ix_instances_status_received", "instances", ["status", "received_at"]),
    ("ix_results_round_id", "results", ["round_id"]),
    ("ix_rounds_computed_at", "rounds", ["computed_at"]),
    ("ix_rounds_published_at", "rounds", ["published_at"]),
    ("ix_rounds_selection_id", "rounds", ["selection_id"]),
    ("ix_selections_evidence_uid", "selections", ["evidence_uid"]),
    ("ix_selections_outcome", "selections", ["outcome"]),
    ("ix_work_items_case_id", "work_items", ["case_id"]),
)
_REPLACED = (
    ("ix_cases_state", "cases", ["state"]),
    ("ix_deliveries_destination", "deliveries", ["destination"]),
)


def upgrade() -> None:
    """Apply this migration. Longer indexes with the same first columns replace two indexes."""
    for name, table, columns in _ADDED:
        op.create_index(name, table, columns)
    for name, table, _ in _REPLACED:
        op.drop_index(name, table)


def downgrade() -> None:
    """Undo this migration."""
    for name, table, columns in _REPLACED:
        op.create_index(name, table, columns)
    for name, table, _ in _ADDED:
        op.drop_index(name, table)
