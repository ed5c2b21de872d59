"""Run by alembic: applies revisions on the connection that `allocator/schema.py` passes in."""

from alembic import context

from allocator.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
