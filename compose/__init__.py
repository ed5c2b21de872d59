"""The composition root: settings, entry points and private local services."""
