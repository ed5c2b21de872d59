"""Nodes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.columns import name

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nodes."""
    op.create_table(
        "nodes",
        sa.Column("name", name(200), nullable=False),
        sa.Column("session", mysql.BINARY(16), nullable=False),
        sa.Column("fenced_session", mysql.BINARY(16), nullable=True),
        sa.Column("state", name(16), nullable=False),
        sa.Column("last_seen", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
