"""Pools of networks."""

import sqlalchemy as sa
from alembic import op

from allocator.migrations.columns import name

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Pools of networks."""
    op.create_table(
        "pools",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("name", name(63), nullable=False),
        sa.Column("policy", name(16), nullable=False),
        sa.Column("owners", sa.JSON(), nullable=False),
        sa.Column("cooldown_s", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_pools_network"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id", "name", name="uq_pools_name"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
