"""Alembic's entry point. It migrates over the connection that `Database.migrate` passes."""

from alembic import context

from uair_node.cases.installation_tables import ALL_TABLES

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=ALL_TABLES,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
