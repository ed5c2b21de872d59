"""Whether the allocator is paused after a restore."""

import sqlalchemy as sa

from allocator.migrations.changes import ensure_columns

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Whether the allocator is paused after a restore."""
    ensure_columns("epochs", sa.Column("paused", sa.SmallInteger(), nullable=False, server_default="0"))
