"""History, append-only."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.columns import name

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
        sa.Column("ifname", name(15), nullable=True),
        sa.Column("node", name(200), nullable=True),
        sa.Column("container_id", name(255), nullable=True),
        sa.Column("attachment_id", mysql.BINARY(16), nullable=True),
        sa.Column("user_id", name(255), nullable=True),
        sa.Column("actor", mysql.VARCHAR(255), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_history_network"),
        sa.PrimaryKeyConstraint("network_id", "seq", name="pk_history"),
        sa.Index("ix_history_address", "network_id", "address", "seq"),
        sa.Index("ix_history_attachment", "attachment_id"),
        sa.Index("ix_history_node", "network_id", "node", "seq"),
        sa.Index("ix_history_owner", "network_id", "owner", "seq"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
