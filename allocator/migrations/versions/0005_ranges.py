"""Ranges of pools, with their cursors and counters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.indexes import ensure_index

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Ranges of pools, with their cursors and counters."""
    op.create_table(
        "ranges",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("pool_id", sa.BigInteger(), nullable=False),
        sa.Column("family", sa.SmallInteger(), nullable=False),
        sa.Column("first", mysql.BINARY(16), nullable=False),
        sa.Column("last", mysql.BINARY(16), nullable=False),
        sa.Column("cursor", mysql.BINARY(16), nullable=True),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_ranges_network"),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="fk_ranges_pool"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id", "first", name="uq_ranges_first"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    ensure_index("ix_ranges_pool", "ranges", ["pool_id", "family", "first"])
