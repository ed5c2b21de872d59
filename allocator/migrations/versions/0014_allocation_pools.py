"""The pool of each allocation, as its range says."""

import sqlalchemy as sa
from alembic import op

from allocator.migrations.changes import ensure_columns

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """The pool of each allocation, as its range says."""
    ensure_columns("allocations", sa.Column("pool_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE allocations JOIN ranges ON ranges.id = allocations.range_id "
        "SET allocations.pool_id = ranges.pool_id"
    )
    op.alter_column(
        "allocations", "pool_id", existing_type=sa.BigInteger(), nullable=False, server_default=None
    )
