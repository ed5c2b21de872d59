"""Administrative requests with their answers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.columns import name
from allocator.migrations.indexes import ensure_index

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Administrative requests with their answers."""
    op.create_table(
        "requests",
        sa.Column("request_id", name(64), nullable=False),
        sa.Column("name", name(63), nullable=False),
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", name(64), nullable=False),
        sa.Column("answer", mysql.MEDIUMTEXT(), nullable=True),
        sa.Column("waiters", sa.JSON(), nullable=False),
        sa.Column("has_waiters", sa.SmallInteger(), nullable=False),
        sa.Column("deadline", mysql.DATETIME(fsp=6), nullable=True),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_requests_network"),
        sa.PrimaryKeyConstraint("request_id"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    ensure_index("ix_requests_deadline", "requests", ["deadline"])
    ensure_index("ix_requests_network", "requests", ["network_id", "created_at"])
    ensure_index("ix_requests_waiters", "requests", ["has_waiters", "created_at"])
