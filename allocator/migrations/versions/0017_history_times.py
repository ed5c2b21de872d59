"""Find history by time."""

from allocator.migrations.indexes import ensure_index

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Find history by time."""
    ensure_index("ix_history_at", "history", ["network_id", "at"])
