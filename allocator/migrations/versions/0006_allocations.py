"""Addresses that were ever used."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from allocator.migrations.columns import ifname, name
from allocator.migrations.indexes import ensure_index

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Addresses that were ever used."""
    op.create_table(
        "allocations",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("range_id", sa.BigInteger(), nullable=False),
        sa.Column("family", sa.SmallInteger(), nullable=False),
        sa.Column("address", mysql.BINARY(16), nullable=False),
        sa.Column("state", name(16), nullable=False),
        sa.Column("since", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("owner", name(320), nullable=True),
        sa.Column("pinned_owner", name(320), nullable=True),
        sa.Column("ifname", ifname(), nullable=True),
        sa.Column("mac", name(17), nullable=True),
        sa.Column("node", name(200), nullable=True),
        sa.Column("container_id", name(255), nullable=True),
        sa.Column("attachment_id", mysql.BINARY(16), nullable=True),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_allocations_network"),
        sa.ForeignKeyConstraint(["range_id"], ["ranges.id"], name="fk_allocations_range"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("attachment_id", "family", name="uq_allocations_attachment"),
        sa.UniqueConstraint("network_id", "address", name="uq_allocations_address"),
        sa.UniqueConstraint("network_id", "family", "mac", name="uq_allocations_mac"),
        sa.UniqueConstraint(
            "network_id", "pinned_owner", "ifname", "family", name="uq_allocations_pinned_owner"
        ),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    ensure_index("ix_allocations_container", "allocations", ["node", "container_id"])
    ensure_index("ix_allocations_free", "allocations", ["range_id", "state", "since"])
    ensure_index("ix_allocations_owner", "allocations", ["network_id", "owner", "address"])
