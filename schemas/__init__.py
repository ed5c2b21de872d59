"""The shared vocabulary: every message, reply and event, and the errors."""
