"""What each node said of each network."""

import sqlalchemy as sa
from alembic import op

from allocator.migrations.columns import name
from allocator.migrations.indexes import ensure_index

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """What each node said of each network."""
    op.create_table(
        "rollouts",
        sa.Column("network_id", sa.BigInteger(), nullable=False),
        sa.Column("node", name(200), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", name(16), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_rollouts_network"),
        sa.PrimaryKeyConstraint("network_id", "node", name="pk_rollouts"),
        mysql_charset="utf8mb4",
        mysql_engine="InnoDB",
        if_not_exists=True,
    )
    ensure_index("ix_rollouts_node", "rollouts", ["node", "state"])
