"""REST under /api/v1: every write is a request message, every read a query message."""
