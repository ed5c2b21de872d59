"""Changes of tables made so that a revision can be repeated: MySQL has no IF NOT EXISTS for most of them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op


def ensure_columns(table: str, *columns: sa.Column[Any]) -> None:
    """Add those of `columns` that the table does not have."""
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in known:
            op.add_column(table, column)


def ensure_foreign_key(name: str, table: str, referred: str, columns: Sequence[str]) -> None:
    """Make the foreign key to the `id` of `referred` unless the table has it."""
    if name not in _foreign_keys(table):
        op.create_foreign_key(name, table, referred, list(columns), ["id"])


def drop_foreign_key(name: str, table: str) -> None:
    """Drop the foreign key if the table has it."""
    if name in _foreign_keys(table):
        op.drop_constraint(name, table, type_="foreignkey")


def drop_index(name: str, table: str) -> None:
    """Drop the index if the table has it."""
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.drop_index(name, table)


def _foreign_keys(table: str) -> set[str | None]:
    return {key["name"] for key in sa.inspect(op.get_bind()).get_foreign_keys(table)}
