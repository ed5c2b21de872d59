"""Indexes made so that a revision can be repeated: MySQL has no CREATE INDEX IF NOT EXISTS."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op


def ensure_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Make the index unless the table has one of this name, from a run that was interrupted."""
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns))
