"""Networks and their tombstones."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.columns import name

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Networks and their tombstones."""
    op.create_table(
        "networks",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("name", name(63), nullable=False),
        sa.Column("state", name(16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("relayed_seq", sa.BigInteger(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("since", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_networks_name"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
