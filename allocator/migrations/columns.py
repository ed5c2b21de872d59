"""Column types that revisions share. Frozen: a change of type is a revision of its own."""

from sqlalchemy.dialects import mysql


def name(length: int) -> mysql.VARCHAR:
    """A name, compared byte by byte."""
    return mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
