"""What pools keep for how long, who chooses MACs, and a version for each."""

import sqlalchemy as sa

from allocator.migrations.changes import ensure_columns

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """What pools keep for how long, who chooses MACs, and a version for each."""
    ensure_columns(
        "pools",
        sa.Column("retain_s", sa.Integer(), nullable=True),
        sa.Column("allow_mac", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"),
    )
