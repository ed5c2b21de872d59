"""How people reach the system."""
