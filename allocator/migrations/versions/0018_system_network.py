"""The reserved network whose history tells of nodes."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """The reserved network whose history tells of nodes."""
    op.execute(
        "INSERT IGNORE INTO networks (name, state, version, seq, relayed_seq, definition, since) "
        "VALUES ('_system', 'system', 0, 0, 0, '{}', UTC_TIMESTAMP(6))"
    )
