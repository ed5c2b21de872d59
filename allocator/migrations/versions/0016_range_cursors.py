"""Find the ranges of a pool that have never-used addresses."""

from allocator.migrations.indexes import ensure_index

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Find the ranges of a pool that have never-used addresses."""
    ensure_index("ix_ranges_cursor", "ranges", ["pool_id", "family", "cursor"])
