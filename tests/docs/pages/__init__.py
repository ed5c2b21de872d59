"""What each page takes for granted; importing a module registers it (tests/docs/preparing.py)."""

from tests.docs.pages import addresses, drivers, kubernetes, migration, operations, readme, rest, start

__all__ = ["addresses", "drivers", "kubernetes", "migration", "operations", "readme", "rest", "start"]
