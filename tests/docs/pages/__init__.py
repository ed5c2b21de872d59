"""What each page takes for granted; importing a module registers it (tests/docs/preparing.py)."""

from tests.docs.pages import addresses, drivers, migration, operations, readme, rest, start

__all__ = ["addresses", "drivers", "migration", "operations", "readme", "rest", "start"]
