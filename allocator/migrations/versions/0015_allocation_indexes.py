"""Find a pool's free rows by one index; ranges are split without asking allocations."""

from allocator.migrations.changes import drop_foreign_key, drop_index, ensure_foreign_key
from allocator.migrations.indexes import ensure_index

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Find a pool's free rows by one index; ranges are split without asking allocations."""
    drop_foreign_key("fk_allocations_range", "allocations")
    ensure_index("ix_allocations_pool", "allocations", ["pool_id", "family", "state", "since"])
    ensure_foreign_key("fk_allocations_pool", "allocations", "pools", ["pool_id"])
    drop_index("ix_allocations_free", "allocations")
