"""Which networks have tunnels, and where those of each node end."""

import sqlalchemy as sa

from allocator.migrations.changes import ensure_columns

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Which networks have tunnels, and where those of each node end."""
    has_tunnels = sa.Column("has_tunnels", sa.SmallInteger(), nullable=False, server_default="0")
    ensure_columns("networks", has_tunnels)
    ensure_columns("nodes", sa.Column("address", sa.BINARY(16), nullable=True))
