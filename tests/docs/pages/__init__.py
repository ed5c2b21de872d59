"""What each page takes for granted; importing a module registers it (tests/docs/preparing.py)."""

from tests.docs.pages import addresses, drivers, operations, readme, rest

__all__ = ["addresses", "drivers", "operations", "readme", "rest"]
