"""Whether a network is kept although nodes could not make it."""

import sqlalchemy as sa

from allocator.migrations.changes import ensure_columns

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Whether a network is kept although nodes could not make it."""
    ensure_columns("requests", sa.Column("keep_going", sa.SmallInteger(), nullable=False, server_default="0"))
