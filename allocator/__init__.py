"""The owner of IP state: the only process that touches SQL."""
