"""Subnets of networks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Subnets of networks."""
    op.create_table(
        "subnets",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("base", mysql.BINARY(16), nullable=False),
        sa.Column("prefix", sa.SmallInteger(), nullable=False),
        sa.Column("gateway", mysql.BINARY(16), nullable=True),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_subnets_network"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id", "base", name="uq_subnets_base"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
