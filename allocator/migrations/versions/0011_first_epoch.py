"""Number the first epoch."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Number the first epoch."""
    op.execute("INSERT IGNORE INTO epochs (id, epoch) VALUES (1, 1)")
