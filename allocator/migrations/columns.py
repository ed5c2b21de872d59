"""Column types that revisions share. Frozen: a change of type is a revision of its own."""

from sqlalchemy.dialects import mysql


def name(length: int) -> mysql.VARCHAR:
    """A name, compared byte by byte."""
    return mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")


def ifname() -> mysql.VARCHAR:
    """An interface name: the kernel takes any bytes."""
    return mysql.VARCHAR(15, charset="utf8mb4", collation="utf8mb4_bin")
