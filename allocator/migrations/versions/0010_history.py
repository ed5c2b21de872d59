"""History, append-only."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.columns import ifname, name
from allocator.migrations.indexes import ensure_index

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """History, append-only."""
    op.create_table(
        "history",
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("event", name(32), nullable=False),
        sa.Column("pool", name(63), nullable=True),
        sa.Column("address", mysql.BINARY(16), nullable=True),
        sa.Column("owner", name(320), nullable=True),
        sa.Column("mac", name(17), nullable=True),
        sa.Column("ifname", ifname(), nullable=True),
        sa.Column("node", name(200), nullable=True),
        sa.Column("container_id", name(255), nullable=True),
        sa.Column("attachment_id", mysql.BINARY(16), nullable=True),
        sa.Column("user_id", name(255), nullable=True),
        sa.Column("actor", mysql.VARCHAR(255), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_history_network"),
        sa.PrimaryKeyConstraint("network_id", "seq", name="pk_history"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    ensure_index("ix_history_address", "history", ["network_id", "address", "seq"])
    ensure_index("ix_history_attachment", "history", ["attachment_id"])
    ensure_index("ix_history_node", "history", ["network_id", "node", "seq"])
    ensure_index("ix_history_owner", "history", ["network_id", "owner", "seq"])
